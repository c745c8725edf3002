"""What the processor's bfloat16 products make fast: few rows times packed weights, a decoder layer, attention.

All of it exists compiled only, for processors with AVX512-BF16; who calls it asks `multiplies` and has another way.
Nothing here knows of gradients.
"""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int, c_int64, c_void_p
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from plaudit.models.kernels.build import library

_POINTER, _COUNT, _NUMBER, _FLAG = c_void_p, c_int64, c_float, c_int
_ARGUMENTS: dict[str, list[Any]] = {
    "pack_weight": [*[_POINTER] * 2, *[_COUNT] * 2],
    "product": [*[_POINTER] * 4, *[_COUNT] * 3],
    "decode_layer": [*[_POINTER] * 6, *[_COUNT] * 2],
    "attend_packed": [_POINTER, _FLAG],
}
_OUTPUTS = 48  # of a block of packed weights, as in decode.inc


def multiplies(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether there are products of our own: in bfloat16, on processors with AVX512-BF16."""
    compiled = library()
    return dtype is torch.bfloat16 and device.type == "cpu" and compiled is not None and hasattr(compiled, "product")


class Layer(ctypes.Structure):
    """A decoder layer for `decode_layer`, as in decode.inc: addresses of what must outlive it, and dimensions."""

    _fields_ = [
        *((name, _POINTER) for name in ("attention_norm", "mlp_norm")),
        *((part + what, _POINTER) for part in ("qkv", "o", "gate_up", "down") for what in ("", "_bias")),
        *((name, _POINTER) for name in ("keys", "values")),
        *((name, _COUNT) for name in ("hidden", "heads", "kv_heads", "width", "inner", "columns", "window")),
        *((name, _NUMBER) for name in ("attention_eps", "mlp_eps", "scale")),
    ]


def pack_weight(weight: Tensor) -> Tensor:
    """A bfloat16 weight (out, in), `in` even, in the order that `product` reads: as many numbers, and some zeros."""
    outs, ins = weight.shape
    assert ins % 2 == 0, "inputs are taken in pairs"
    weight = weight.contiguous()
    packed = torch.empty(-(-outs // _OUTPUTS) * _OUTPUTS * ins, dtype=weight.dtype)
    _kernel("pack_weight")(weight.data_ptr(), packed.data_ptr(), outs, ins)
    return packed


def product(x: Tensor, packed: Tensor, bias: Tensor | None, outs: int) -> Tensor:
    """x (R, in) times the transposed weight that was packed, plus bias (out,): (R, out)."""
    x = x.contiguous()
    rows, ins = x.shape
    assert packed.numel() == -(-outs // _OUTPUTS) * _OUTPUTS * ins, "the weight has as many inputs"
    out = torch.empty((rows, outs), dtype=x.dtype)
    _kernel("product")(
        x.data_ptr(), packed.data_ptr(), None if bias is None else bias.data_ptr(), out.data_ptr(), rows, ins, outs
    )
    return out


def decode_layer(layer: Layer, hidden: Tensor, cos: Tensor, sin: Tensor, lengths: Tensor, column: int) -> Tensor:
    """One new token of each row through a decoder layer: (R, H) in and out; angles and cache as in `attend_step`."""
    hidden, cos, sin = hidden.contiguous(), cos.contiguous(), sin.contiguous()
    assert cos.shape == sin.shape == (len(hidden), layer.width), "an angle for every row and column"
    assert column < layer.columns, "the new token needs a column"
    assert len(lengths) == len(hidden), "a length for every row"
    out = torch.empty_like(hidden)
    failed = _kernel("decode_layer")(
        ctypes.addressof(layer),
        hidden.data_ptr(),
        cos.data_ptr(),
        sin.data_ptr(),
        lengths.data_ptr(),
        out.data_ptr(),
        len(hidden),
        column,
    )
    if failed:
        raise MemoryError(f"no memory for a layer of {len(hidden)} rows and {layer.columns} columns")
    return out


class Groups(NamedTuple):
    """Who sees whom in a packed row of N tokens, G groups of one prompt and its answers.

    Attributes:
        starts: (G + 1,) first token of each group, and N.
        order: (G,) groups, longest first: the order in which threads take them.
        prompt_ends, own_starts: (N,) places within the group: a token sees those before `prompt_ends`, and those from
            `own_starts` to itself.
        longest: tokens of the longest group.
    """

    starts: Tensor
    order: Tensor
    prompt_ends: Tensor
    own_starts: Tensor
    longest: int


class _Attention(ctypes.Structure):
    """As in attention.inc."""

    _fields_ = [
        *((name, _POINTER) for name in ("query", "key", "value", "starts", "order", "prompt_ends", "own_starts")),
        *((name, _POINTER) for name in ("out", "log_sums", "grad_out", "grad_query", "grad_key", "grad_value")),
        *((name, _COUNT) for name in ("groups", "heads", "kv_heads", "width", "longest")),
        ("scale", _NUMBER),
    ]


def attend_packed(query: Tensor, key: Tensor, value: Tensor, groups: Groups, scale: float) -> tuple[Tensor, Tensor]:
    """Attention of bfloat16 (N, heads, D), D even, over (N, key heads, D) within groups.

    Returns:
        (N, heads, D), and (N, heads) float32 logarithms of the sums of the softmax, for the backward pass.
    """
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    out, log_sums = torch.empty_like(query), torch.empty(query.shape[:2])
    _attend(query, key, value, groups, scale, {"out": out, "log_sums": log_sums}, backward=False)
    return out, log_sums


def attend_packed_backward(
    query: Tensor, key: Tensor, value: Tensor, groups: Groups, scale: float, out: Tensor, log_sums: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `attend_packed` at query, key and value, from what it returned and the gradient of `out`."""
    query, key, value, grad = query.contiguous(), key.contiguous(), value.contiguous(), grad.contiguous()
    grads = {"query": torch.empty_like(query), "key": torch.empty_like(key), "value": torch.empty_like(value)}
    more = {"out": out, "log_sums": log_sums, "grad_out": grad} | {f"grad_{name}": one for name, one in grads.items()}
    _attend(query, key, value, groups, scale, more, backward=True)
    return grads["query"], grads["key"], grads["value"]


def _attend(
    query: Tensor, key: Tensor, value: Tensor, groups: Groups, scale: float, more: dict[str, Tensor], *, backward: bool
) -> None:
    rows, heads, width = query.shape
    kv_heads = key.shape[1]
    assert key.shape == value.shape == (rows, kv_heads, width), "a key and a value for every token"
    assert heads % kv_heads == 0, "as many query heads for each key head"
    assert width % 2 == 0, "numbers are taken in pairs"
    assert len(groups.prompt_ends) == len(groups.own_starts) == rows, "every token is in a group"
    given = {"query": query, "key": key, "value": value} | more
    tensors = given | {name: getattr(groups, name) for name in ("starts", "order", "prompt_ends", "own_starts")}
    attention = _Attention(
        groups=len(groups.order),
        heads=heads,
        kv_heads=kv_heads,
        width=width,
        longest=groups.longest,
        scale=scale,
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
    )
    if _kernel("attend_packed")(ctypes.addressof(attention), int(backward)):
        raise MemoryError(f"no memory for the attention of {groups.longest} tokens")


@cache
def _kernel(name: str) -> Any:
    function = getattr(library(), name)
    function.argtypes, function.restype = (
        _ARGUMENTS[name],
        ctypes.c_int if name in {"decode_layer", "attend_packed"} else None,
    )
    return function
