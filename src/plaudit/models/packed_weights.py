"""Weights of linear layers in the order the processor's matrix kernels want, for decoding.

A product of 32 rows with a weight matrix reorders the whole matrix before it multiplies; done once for many steps, the
product is 1.3 to 1.6 times as fast. Layers that read the same states (query, key and value; gate and up) become one
product.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

Linears = tuple[nn.Module, ...]


class _Entry(NamedTuple):
    weight: Tensor  # reordered
    bias: Tensor | None
    widths: list[int]  # columns of each linear layer


class _Kept(NamedTuple):
    """An entry of frozen weights, good for products of as many rows until somebody writes into one of them."""

    entry: _Entry
    rows: int
    versions: list[tuple[int, int]]  # where each weight and bias lies, and how often it was written to


# of frozen weights, by the first of them: a trunk is packed once a process, not once a sampling call
_frozen: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


class PackedWeights:
    """Reordered copies of the weights they were made from: make them anew after weights that train have changed.

    Only plain linear layers on processors are packed; adapters and other devices compute as they are.
    """

    def __init__(self, rows: int) -> None:
        """`rows`: about how many rows the products will have."""
        self._rows = rows
        self._packed: dict[Linears, _Entry] = {}
        self._head: tuple[Tensor, _Entry] | None = None

    def linear(self, modules: Linears, x: Tensor) -> tuple[Tensor, ...]:
        """What each of `modules` makes of x (R, in): (R, out) each."""
        entry = self._packed.get(modules)
        if entry is None:
            kinds = {getattr(module, "bias", None) is None for module in modules}
            if len(kinds) > 1 or not all(_can_be_packed(module) for module in modules):
                return tuple(module(x) for module in modules)
            plain: Any = modules
            entry = self._packed[modules] = self._pack([m.weight for m in plain], [m.bias for m in plain])
        out = _product(x, entry)
        return (out,) if len(entry.widths) == 1 else out.split(entry.widths, dim=1)

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """x (R, in) times the transposed weight (out, in): the vocabulary head."""
        if not _matrix_can_be_packed(weight):
            return x @ weight.t()
        if self._head is None or self._head[0] is not weight:
            self._head = weight, self._pack([weight], [None])
        return _product(x, self._head[1])

    def _pack(self, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> _Entry:
        """The weights below each other, reordered; kept for the next call where none of them trains."""
        parts = [one for one in (*weights, *biases) if one is not None]
        versions = [(one.data_ptr(), one._version) for one in parts]
        kept: _Kept | None = _frozen.get(weights[0])
        if kept is not None and (kept.rows, kept.versions) == (self._rows, versions):
            return kept.entry
        together = torch.cat([one.detach() for one in weights]) if len(weights) > 1 else weights[0].detach()
        bias = None if biases[0] is None else torch.cat([one.detach() for one in biases if one is not None])
        packed = torch.ops.mkldnn._reorder_linear_weight(together, self._rows)
        entry = _Entry(packed, bias, [one.shape[0] for one in weights])
        if not any(one.requires_grad for one in parts):
            _frozen[weights[0]] = _Kept(entry, self._rows, versions)
        return entry


def _product(x: Tensor, entry: _Entry) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(x, entry.weight, entry.bias, "none", [], "")


def _can_be_packed(module: Any) -> bool:
    # an adapter is no plain nn.Linear
    return type(module) is nn.Linear and _matrix_can_be_packed(module.weight)


def _matrix_can_be_packed(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and _has_kernels()


@cache
def _has_kernels() -> bool:
    """Whether PyTorch has these kernels, and the processor the instructions they need: others refuse bfloat16."""
    kernels: Any = torch.ops.mkldnn
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(kernels, "_linear_pointwise")
        and kernels._is_mkldnn_bf16_supported()
    )
