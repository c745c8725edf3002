"""Weights of linear layers in the order the processor's matrix kernels want, for decoding.

A product of 32 rows with a weight matrix reorders the whole matrix before it multiplies; done once for many steps, the
product is 1.3 to 1.6 times as fast. Layers that read the same states (query, key and value; gate and up) become one
product. It is computed by the compiled kernels where they can (`products.multiplies`), which is 1.2 times (128 rows) to
twice (1 row) as fast again, else by oneDNN.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from plaudit.models.kernels import products

Linears = tuple[nn.Module, ...]


class Entry(NamedTuple):
    """Weights below each other as one product.

    Attributes:
        weight: reordered, as `rows` says.
        bias: (sum of widths,) or None.
        widths: columns of each linear layer.
        rows: for about how many rows oneDNN ordered it; 0 where the compiled kernels did, for any number.
    """

    weight: Tensor
    bias: Tensor | None
    widths: list[int]
    rows: int


class _Kept(NamedTuple):
    """An entry of frozen weights, good until somebody writes into one of them."""

    entry: Entry
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
        self._packed: dict[Linears, Entry] = {}
        self._head: tuple[Tensor, Entry] | None = None

    def linear(self, modules: Linears, x: Tensor) -> tuple[Tensor, ...]:
        """What each of `modules` makes of x (R, in): (R, out) each."""
        entry = self.entry(modules)
        if entry is None:
            return tuple(module(x) for module in modules)
        out = _product(x, entry)
        return (out,) if len(entry.widths) == 1 else out.split(entry.widths, dim=1)

    def entry(self, modules: Linears) -> Entry | None:
        """The packed weights of linear modules that read the same states; None where they cannot be packed."""
        entry = self._packed.get(modules)
        if entry is None:
            kinds = {getattr(module, "bias", None) is None for module in modules}
            if len(kinds) > 1 or not all(_can_be_packed(module) for module in modules):
                return None
            plain: Any = modules
            entry = self._packed[modules] = self._pack([m.weight for m in plain], [m.bias for m in plain])
        return entry

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """x (R, in) times the transposed weight (out, in): the vocabulary head."""
        if not _matrix_can_be_packed(weight):
            return x @ weight.t()
        if self._head is None or self._head[0] is not weight:
            self._head = weight, self._pack([weight], [None])
        return _product(x, self._head[1])

    def _pack(self, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Entry:
        """The weights below each other, reordered; kept for the next call where none of them trains."""
        parts = [one for one in (*weights, *biases) if one is not None]
        versions = [(one.data_ptr(), one._version) for one in parts]
        rows = 0 if _for_kernels(weights[0]) else self._rows
        kept: _Kept | None = _frozen.get(weights[0])
        if kept is not None and (kept.entry.rows, kept.versions) == (rows, versions):
            return kept.entry
        together = torch.cat([one.detach() for one in weights]) if len(weights) > 1 else weights[0].detach()
        bias = None if biases[0] is None else torch.cat([one.detach() for one in biases if one is not None])
        reorder = torch.ops.mkldnn._reorder_linear_weight
        packed = reorder(together, rows) if rows else products.pack_weight(together)
        entry = Entry(packed, bias, [one.shape[0] for one in weights], rows)
        if not any(one.requires_grad for one in parts):
            _frozen[weights[0]] = _Kept(entry, versions)
        return entry


def _product(x: Tensor, entry: Entry) -> Tensor:
    if not entry.rows:
        return products.product(x, entry.weight, entry.bias, sum(entry.widths))
    return torch.ops.mkldnn._linear_pointwise.default(x, entry.weight, entry.bias, "none", [], "")


def _for_kernels(weight: Tensor) -> bool:
    """Whether the compiled kernels multiply by weights like this one: they take inputs in pairs."""
    return products.multiplies(weight.dtype, weight.device) and weight.shape[1] % 2 == 0


def _can_be_packed(module: Any) -> bool:
    # an adapter is no plain nn.Linear
    return type(module) is nn.Linear and _matrix_can_be_packed(module.weight)


def _matrix_can_be_packed(weight: Tensor) -> bool:
    return _for_kernels(weight) or (weight.device.type, weight.dtype, _has_onednn()) == ("cpu", torch.bfloat16, True)


@cache
def _has_onednn() -> bool:
    """Whether PyTorch has these kernels, and the processor the instructions they need: others refuse bfloat16."""
    onednn: Any = torch.ops.mkldnn
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(onednn, "_linear_pointwise")
        and onednn._is_mkldnn_bf16_supported()
    )
