"""The small operations of a decoder layer as functions of tensors: compiled where `serves` says so, else PyTorch's.

Nothing here knows of gradients: `fused` and `logprobs` do. `attend_step` and `draw` exist compiled only; who calls them
asks `serves` and has another way.
"""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int, c_int64, c_void_p
from functools import cache
from typing import Any

import torch
from torch import Tensor

from plaudit.models.kernels import eager
from plaudit.models.kernels.build import library

_POINTER, _COUNT, _NUMBER, _FLAG = c_void_p, c_int64, c_float, c_int
_ROWS_A_BLOCK = 32  # as in kernels.c
_BLOCK = 128  # as in kernels.c
_ARGUMENTS: dict[str, list[Any]] = {
    "add_norm": [*[_POINTER] * 3, _NUMBER, *[_POINTER] * 3, *[_COUNT] * 2],
    "norm_backward": [*[_POINTER] * 7, *[_COUNT] * 2],
    "gated": [*[_POINTER] * 3, *[_COUNT] * 3],
    "gated_backward": [*[_POINTER] * 5, _COUNT],
    "rotate": [*[_POINTER] * 3, _NUMBER, _POINTER, *[_COUNT] * 4],
    "attend_step": [*[_POINTER] * 3, *[_COUNT] * 3, *[_POINTER] * 6, _NUMBER, *[_COUNT] * 7],
    "draw": [*[_POINTER] * 2, _NUMBER, *[_POINTER] * 3, *[_COUNT] * 2],
    "adamw": [*[_POINTER] * 5, *[_NUMBER] * 7, _COUNT],
    "log_softmax": [*[_POINTER] * 2, _NUMBER, _POINTER, _FLAG, *[_POINTER] * 2, *[_COUNT] * 2],
}
_FORMATS = {torch.bfloat16: "bfloat16", torch.float32: "float32"}


def serves(x: Tensor) -> bool:
    """Whether the kernels compute with tensors like this one: on a processor, in bfloat16 or float32."""
    return x.dtype in _FORMATS and x.device.type == "cpu" and library() is not None


def add_norm(x: Tensor, y: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """x + y, its root-mean-square norm times `weight`, and the factor of each row: (N, H), (N, H), (N,) float32.

    Without `y` the sum is x itself.
    """
    if not serves(x) or weight.dtype != x.dtype:
        return eager.add_norm(x, y, weight, eps)
    x, y = x.contiguous(), None if y is None else y.contiguous()
    width = x.shape[-1]
    rows = x.numel() // width
    total = x if y is None else torch.empty_like(x)
    normed, scale = torch.empty_like(x), torch.empty(rows)
    _kernel("add_norm", x.dtype)(
        x.data_ptr(), _at(y), weight.data_ptr(), eps, total.data_ptr(), normed.data_ptr(), scale.data_ptr(), rows, width
    )
    return total, normed, scale


def norm_backward(
    x: Tensor, scale: Tensor, weight: Tensor, grad: Tensor, beside: Tensor | None, *, needs_weight: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of `add_norm` at its sum x, `beside` added, and at the weight: (N, H) and (H,)."""
    if not serves(x) or weight.dtype != x.dtype:
        return eager.norm_backward(x, scale, weight, grad, beside, needs_weight=needs_weight)
    grad, beside = grad.contiguous(), None if beside is None else beside.contiguous()
    width = x.shape[-1]
    rows = x.numel() // width
    grad_x = torch.empty_like(x)
    sums = torch.empty(-(-rows // _ROWS_A_BLOCK), width) if needs_weight else None
    _kernel("norm_backward", x.dtype)(
        x.data_ptr(),
        scale.data_ptr(),
        weight.data_ptr(),
        grad.data_ptr(),
        _at(beside),
        grad_x.data_ptr(),
        _at(sums),
        rows,
        width,
    )
    return grad_x, None if sums is None else sums.sum(0).to(weight.dtype)


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, (N, F); both may be columns of one product."""
    if not serves(gate):
        return eager.gated(gate, up)
    rows, width = gate.shape
    if gate.stride() != up.stride() or gate.stride(1) != 1:
        gate, up = gate.contiguous(), up.contiguous()
    out = torch.empty((rows, width), dtype=gate.dtype)
    _kernel("gated", gate.dtype)(gate.data_ptr(), up.data_ptr(), out.data_ptr(), rows, width, gate.stride(0))
    return out


def gated_backward(grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `gated` at gate and up."""
    if not serves(gate):
        return eager.gated_backward(grad, gate, up)
    grad, gate, up = grad.contiguous(), gate.contiguous(), up.contiguous()
    grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
    _kernel("gated_backward", gate.dtype)(
        grad.data_ptr(), gate.data_ptr(), up.data_ptr(), grad_gate.data_ptr(), grad_up.data_ptr(), gate.numel()
    )
    return grad_gate, grad_up


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool = False) -> Tensor:
    """Rotary positions of (N, heads, D) by (N, D) angles, or back (Su et al. 2021, on the two halves of each head)."""
    if not serves(x) or cos.dtype != x.dtype:
        return eager.rotate(x, cos, -sin if back else sin)
    rows, heads, width = x.shape
    assert cos.shape == sin.shape == (rows, width), "an angle for every row and column"
    if x.stride(2) != 1 or x.stride(1) != width:
        x = x.contiguous()
    cos, sin = cos.contiguous(), sin.contiguous()
    out = torch.empty((rows, heads, width), dtype=x.dtype)
    _kernel("rotate", x.dtype)(
        x.data_ptr(),
        cos.data_ptr(),
        sin.data_ptr(),
        -1.0 if back else 1.0,
        out.data_ptr(),
        rows,
        heads,
        width,
        x.stride(0),
    )
    return out


def attend_step(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cos: Tensor,
    sin: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor,
    *,
    column: int,
    scale: float,
    window: int | None,
) -> Tensor:
    """A step of decoding: rotates query and key, writes key and value into the cache, attends. (R, heads, D) out.

    Args:
        query: (R, heads, D), not yet rotated; key and value (R, key heads, D). Rows may be columns of one product.
        cos, sin: (R, D) angles.
        keys: (at least R, key heads, D, columns) of the cache; values (…, columns, D).
        lengths: (R,) tokens each row has in the cache, in the columns before `column`.
        column: where the new token goes.
    """
    rows, heads, width = query.shape
    kv_heads, columns = key.shape[1], keys.shape[-1]
    assert all(part.stride()[1:] == (width, 1) for part in (query, key, value)), "heads lie side by side"
    assert cos.shape == sin.shape == (rows, width), "an angle for every row and column"
    assert all(part.is_contiguous() for part in (keys, values)), "a layer's whole part of the cache"
    assert column < columns, "the new token needs a column"
    assert len(keys) >= rows == len(lengths), "a place in the cache for every row"
    cos, sin = cos.contiguous(), sin.contiguous()
    out = torch.empty((rows, heads, width), dtype=query.dtype)
    failed = _kernel("attend_step", query.dtype)(
        query.data_ptr(),
        key.data_ptr(),
        value.data_ptr(),
        query.stride(0),
        key.stride(0),
        value.stride(0),
        cos.data_ptr(),
        sin.data_ptr(),
        keys.data_ptr(),
        values.data_ptr(),
        lengths.data_ptr(),
        out.data_ptr(),
        scale,
        rows,
        heads,
        kv_heads,
        width,
        columns,
        column,
        window or 0,
    )
    if failed:
        raise MemoryError(f"no memory for the attention of {columns} columns")
    return out


def draw(logits: Tensor, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The token each (R,) float64 uniform stands for in softmax(logits / temperature), and its log-prob: (R,) twice."""
    logits, uniforms = logits.contiguous(), uniforms.contiguous()
    rows, width = logits.shape
    sums = torch.empty((rows, -(-width // _BLOCK)), dtype=torch.float64)
    tokens, log_probs = torch.empty(rows, dtype=torch.long), torch.empty(rows)
    _kernel("draw", logits.dtype)(
        logits.data_ptr(),
        uniforms.data_ptr(),
        1 / temperature,
        sums.data_ptr(),
        tokens.data_ptr(),
        log_probs.data_ptr(),
        rows,
        width,
    )
    return tokens, log_probs


def log_softmax_at(logits: Tensor, targets: Tensor, temperature: float, *, slope: bool) -> tuple[Tensor, Tensor]:
    """log softmax(logits / temperature) at the targets and entropies, (R,) float32 each.

    With `slope` the (R, V) logits are overwritten by d log p(target) / d logits.
    """
    if not serves(logits):
        return eager.log_softmax_at(logits, targets, temperature, slope=slope)
    assert logits.is_contiguous(), "they are overwritten in place"
    targets = targets.contiguous()
    rows, width = logits.shape
    log_probs, entropies = torch.empty(rows), torch.empty(rows)
    _kernel("log_softmax", logits.dtype)(
        logits.data_ptr(),
        targets.data_ptr(),
        1 / temperature,
        None,
        int(slope),
        log_probs.data_ptr(),
        entropies.data_ptr(),
        rows,
        width,
    )
    return log_probs, entropies


def log_softmax_slope(logits: Tensor, targets: Tensor, temperature: float, upstream: Tensor) -> None:
    """Overwrite (R, V) logits by upstream (R,) float32 times d log p(target) / d logits."""
    if not serves(logits):
        eager.log_softmax_slope(logits, targets, temperature, upstream)
        return
    assert logits.is_contiguous(), "they are overwritten in place"
    targets = targets.contiguous()
    upstream = upstream.float().contiguous()
    rows, width = logits.shape
    _kernel("log_softmax", logits.dtype)(
        logits.data_ptr(), targets.data_ptr(), 1 / temperature, upstream.data_ptr(), 1, None, None, rows, width
    )


def adamw(
    parameter: Tensor,
    below: Tensor | None,
    grad: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    clip: float,
    lr: float,
    decay: float,
    betas: tuple[float, float],
    eps: float,
    step: int,
) -> None:
    """One update of AdamW (Loshchilov and Hutter 2019), in place.

    Args:
        parameter: bfloat16 with `below`, or float32 without.
        below: int16, of the same shape: parameter and below together are a float32 number, see `eager.joined`.
        grad: float32; `clip` is multiplied into it.
        first, second: moments, in the parameter's format; the update is made from them before they are rounded.
        decay: of the weights, decoupled, times the learning rate.
        step: number of this update, from 1.
    """
    correction1, correction2 = 1 - betas[0] ** step, 1 - betas[1] ** step
    rate, kept, correction = lr / correction1, 1 - lr * decay, correction2**-0.5
    assert all(one.is_contiguous() for one in (parameter, grad, first, second)), "numbers lie side by side"
    if not serves(parameter):
        eager.adamw(parameter, below, grad * clip, first, second, rate, kept, betas, eps, correction)
        return
    assert grad.dtype is torch.float32, "a bfloat16 sum of gradients loses them"
    assert parameter.shape == grad.shape == first.shape == second.shape, "one of each for every number"
    _kernel("adamw", parameter.dtype)(
        parameter.data_ptr(),
        _at(below),
        grad.data_ptr(),
        first.data_ptr(),
        second.data_ptr(),
        clip,
        rate,
        kept,
        *betas,
        eps,
        correction,
        parameter.numel(),
    )


@cache
def _kernel(name: str, dtype: torch.dtype) -> Any:
    compiled = library()
    assert compiled is not None, "ask `serves` first"
    function = getattr(compiled, f"{name}_{_FORMATS[dtype]}")
    function.argtypes, function.restype = _ARGUMENTS[name], ctypes.c_int if name == "attend_step" else None
    return function


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
