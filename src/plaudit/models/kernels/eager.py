"""What the compiled kernels compute, in PyTorch's operations, for every device and format; see `ops`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def add_norm(x: Tensor, y: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    total = x if y is None else x + y
    norm = torch.linalg.vector_norm(total, dim=-1, keepdim=True, dtype=_at_least_float32(total.dtype))
    scale = norm.square_().div_(total.shape[-1]).add_(eps).rsqrt_()
    # computed in float32 and rounded once, in one pass
    return total, torch.mul(total, scale, out=torch.empty_like(total)).mul_(weight), scale.flatten()


def norm_backward(
    x: Tensor, scale: Tensor, weight: Tensor, grad: Tensor, beside: Tensor | None, *, needs_weight: bool
) -> tuple[Tensor, Tensor | None]:
    scale = scale.view(*x.shape[:-1], 1)
    normed = torch.mul(x, scale)  # float32: the sums below lose too much otherwise
    grad_weight = torch.mul(normed, grad).flatten(0, -2).sum(0).to(weight.dtype) if needs_weight else None
    inner = torch.mul(grad.to(scale.dtype), weight)
    along = torch.linalg.vecdot(inner, normed)[..., None].div_(-x.shape[-1])
    grad_x = inner.addcmul_(normed, along).mul_(scale)
    return (grad_x if beside is None else grad_x.add_(beside)).to(x.dtype), grad_weight


def gated(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate).mul_(up)


def gated_backward(grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ops.aten.silu_backward(grad * up, gate), F.silu(gate).mul_(grad)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    out = x * cos[:, None]
    out[..., :half].addcmul_(x[..., half:], sin[:, None, :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[:, None, half:])
    return out


def log_softmax_at(logits: Tensor, targets: Tensor, temperature: float, *, slope: bool) -> tuple[Tensor, Tensor]:
    scaled = logits.to(_at_least_float32(logits.dtype)) / temperature
    normaliser = torch.logsumexp(scaled, dim=-1)
    chosen = scaled.gather(1, targets[:, None]).squeeze(1) - normaliser
    probs = torch.softmax(scaled, dim=-1)
    entropy = normaliser - torch.linalg.vecdot(probs, scaled)
    if slope:
        logits.copy_(_slope(probs, targets, temperature))
    return chosen.float(), entropy.float()


def log_softmax_slope(logits: Tensor, targets: Tensor, temperature: float, upstream: Tensor) -> None:
    probs = torch.softmax(logits.to(_at_least_float32(logits.dtype)) / temperature, dim=-1)
    logits.copy_(_slope(probs, targets, temperature).mul_(upstream[:, None]))


def adamw(
    parameter: Tensor,
    below: Tensor | None,
    grad: Tensor,
    first: Tensor,
    second: Tensor,
    rate: float,
    kept: float,
    betas: tuple[float, float],
    eps: float,
    correction: float,
) -> None:
    mean = first.float().lerp_(grad, 1 - betas[0])
    square = second.float().mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
    whole = parameter.detach() if below is None else joined(parameter.detach(), below)
    now = whole.mul(kept).addcdiv_(mean, square.sqrt().mul_(correction).add_(eps), value=-rate)
    first.copy_(mean)
    second.copy_(square)
    if below is None:
        parameter.copy_(now)
    else:
        rounded, rest = part(now)
        parameter.copy_(rounded)
        below.copy_(rest)


def joined(rounded: Tensor, below: Tensor) -> Tensor:
    """The float32 number whose bits lie `below` (int16) beside those of a bfloat16 number: the inverse of `part`."""
    return (rounded.view(torch.int16).to(torch.int32) << 16).add_(below).view(torch.float32)


def part(number: Tensor) -> tuple[Tensor, Tensor]:
    """A float32 number as the bfloat16 number it rounds to, halves away from zero, and how far its bits lie from it."""
    bits = number.contiguous().view(torch.int32)
    rounded = ((bits + 0x8000) >> 16).to(torch.int16)
    return rounded.view(torch.bfloat16), bits.to(torch.int16)


def _slope(probs: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """(one-hot - p) / temperature. Overwrites `probs`."""
    direction = probs.neg_()
    direction[torch.arange(len(targets)), targets] += 1.0
    return direction.div_(temperature)


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
