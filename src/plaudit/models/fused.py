"""Norm, gate and rotation of a decoder layer, in fewer passes over memory and with less kept for the backward pass.

Each computes what transformers' modules compute, up to rounding; on processors these small operations are bound by
memory, and a third of what a layer keeps for its backward pass comes from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from plaudit.models.kernels import ops


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension (Zhang and Sennrich 2019); (…, H) in and out."""
    if not torch.is_grad_enabled():  # autograd functions cost more than the arithmetic of a few rows
        return ops.add_norm(x, None, weight, eps)[1]
    return _Norm.apply(x, weight, eps)  # type: ignore[return-value]


def add_rms_norm(x: Tensor, y: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x + y, and its `rms_norm`: the residual and what the next part of the layer reads, (…, H) each."""
    if not torch.is_grad_enabled():
        return ops.add_norm(x, y, weight, eps)[:2]
    return _AddNorm.apply(x, y, weight, eps)  # type: ignore[return-value]


class _Norm(torch.autograd.Function):
    """Keeps its input, which the residual keeps anyway, and one number a row; the normed states are made twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:  # type: ignore[override]
        x = x.contiguous()
        _, normed, scale = ops.add_norm(x, None, weight, eps)
        ctx.save_for_backward(x, weight, scale)
        return normed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        grad_x, grad_weight = ops.norm_backward(x, scale, weight, grads[0], None, needs_weight=ctx.needs_input_grad[1])
        return grad_x, grad_weight, None


class _AddNorm(torch.autograd.Function):
    """As `_Norm` of a sum; the sum's two gradients, past the norm and through it, are added as they are made."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        total, normed, scale = ops.add_norm(x, y, weight, eps)
        ctx.save_for_backward(total, weight, scale)
        ctx.set_materialize_grads(False)
        return total, normed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        past, through = grads
        if through is None:
            return past, past, None, None
        total, weight, scale = ctx.saved_tensors
        grad, grad_weight = ops.norm_backward(total, scale, weight, through, past, needs_weight=ctx.needs_input_grad[2])
        return grad, grad, grad_weight, None


def gated(gate: Tensor, up: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """activation(gate) * up: the inside of a gated MLP (Shazeer 2020); (N, F) in and out."""
    if is_silu(activation):
        if not torch.is_grad_enabled():
            return ops.gated(gate, up)
        return _SwiGLU.apply(gate, up)  # type: ignore[return-value]
    return activation(gate) * up


def is_silu(activation: Callable[[Tensor], Tensor]) -> bool:
    """Whether this is PyTorch's or transformers' silu."""
    return type(activation).__name__ in ("SiLUActivation", "SiLU") or isinstance(activation, nn.SiLU)


class _SwiGLU(torch.autograd.Function):
    """silu(gate) * up; keeps its two inputs and computes silu again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(gate, up)
        return ops.gated(gate, up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        return ops.gated_backward(grads[0], *ctx.saved_tensors)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021) on the two halves of each head: (N, heads, D) with (N, D) angles.

    Both halves of `cos` and `sin` hold the same angles, as transformers makes them; the gradient relies on it.
    """
    if not torch.is_grad_enabled():
        return ops.rotate(x, cos, sin)
    return _Rotation.apply(x, cos, sin)  # type: ignore[return-value]


class _Rotation(torch.autograd.Function):
    """A rotation's gradient is the rotation back; nothing but the angles is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(cos, sin)
        return ops.rotate(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return ops.rotate(grads[0], cos, sin, back=True), None, None
