"""Norm, gate and rotation of a decoder layer, in fewer passes over memory and with less kept for the backward pass.

Each computes what transformers' modules compute, up to rounding; on processors these small operations are bound by
memory, and a third of what a layer keeps for its backward pass comes from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension (Zhang and Sennrich 2019); (…, H) in and out."""
    if not torch.is_grad_enabled():  # autograd functions cost more than the arithmetic of a few rows
        return _normed(x, weight, eps)[0]
    return _RMSNorm.apply(x, weight, eps)  # type: ignore[return-value]


def _normed(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The normed states and what they were multiplied with, (…, 1) float32."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    # computed in float32 and rounded once, in one pass
    return torch.mul(x, scale, out=torch.empty_like(x)).mul_(weight), scale


class _RMSNorm(torch.autograd.Function):
    """Keeps its input, which the residual keeps anyway, and one number a row; the normed states are made twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:  # type: ignore[override]
        normed, scale = _normed(x, weight, eps)
        ctx.save_for_backward(x, weight, scale)
        return normed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (grad,) = grads
        x, weight, scale = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        normed = torch.mul(x, scale)  # float32: the sums below lose too much otherwise
        grad_x = grad_weight = None
        if needs_weight:
            summed = torch.mul(normed, grad).flatten(0, -2).sum(0)
            grad_weight = summed.to(weight.dtype)
        if needs_x:
            inner = torch.mul(grad.float(), weight)
            along = torch.linalg.vecdot(inner, normed)[..., None].div_(-x.shape[-1])
            grad_x = inner.addcmul_(normed, along).mul_(scale).to(x.dtype)
        return grad_x, grad_weight, None


def gated(gate: Tensor, up: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """activation(gate) * up: the inside of a gated MLP (Shazeer 2020)."""
    if type(activation).__name__ in ("SiLUActivation", "SiLU") or isinstance(activation, nn.SiLU):
        if not torch.is_grad_enabled():
            return F.silu(gate).mul_(up)
        return _SwiGLU.apply(gate, up)  # type: ignore[return-value]
    return activation(gate) * up


class _SwiGLU(torch.autograd.Function):
    """silu(gate) * up; keeps its two inputs and computes silu again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        gate, up = ctx.saved_tensors
        grad_gate = torch.ops.aten.silu_backward(grad * up, gate)
        return grad_gate, F.silu(gate).mul_(grad)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021) on the two halves of each head: (N, heads, D) with (N, D) angles.

    Both halves of `cos` and `sin` hold the same angles, as transformers makes them; the gradient relies on it.
    """
    if not torch.is_grad_enabled():
        return _rotated(x, cos, sin)
    return _Rotation.apply(x, cos, sin)  # type: ignore[return-value]


class _Rotation(torch.autograd.Function):
    """A rotation's gradient is the rotation back; nothing but the angles is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotated(grads[0], cos, -sin), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    out = x * cos[:, None]
    out[..., :half].addcmul_(x[..., half:], sin[:, None, :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[:, None, half:])
    return out
