"""Log-probabilities of given tokens from hidden states, without keeping logits.

The vocabulary head dominates small models: 49,152 logits in float32 are 200 KB a token. Here logits live in chunks of
rows. Since a token's log-probability is one number, its gradient with respect to the hidden state is one row scaled by
the upstream gradient, so it is computed in the forward pass and no logits are made twice. A head that trains needs
them again for its own gradient; those of the first rows are kept, as far as `KEPT_ROWS`, and the others made again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from plaudit.models.kernels.ops import log_softmax_at, log_softmax_slope

CHUNK_ROWS = 512
KEPT_ROWS = 1024  # 100 MB in bfloat16 for 49,152 tokens; made again they would cost a fifteenth of a training step


class TokenLogProbs(NamedTuple):
    """``log_prob`` (M,) float32 with gradient; ``entropy`` (M,) float32 in nats, without."""

    log_prob: Tensor
    entropy: Tensor


def token_log_probs(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, temperature: float = 1.0, softcap: float | None = None
) -> TokenLogProbs:
    """log softmax(cap(hidden @ weight.T) / temperature) at ``targets``.

    Args:
        hidden: (M, H) states that predict the targets, after the final norm.
        weight: (V, H) vocabulary head.
        targets: (M,) token ids.
        temperature: the sampling temperature; the distribution that was sampled from is the one to score.
        softcap: Gemma 2's final cap, softcap * tanh(logits / softcap).
    """
    log_prob, entropy = _TokenLogProb.apply(hidden, weight, targets, temperature, softcap)  # type: ignore[misc]
    return TokenLogProbs(log_prob, entropy)


def capped(product: Tensor, softcap: float | None) -> Tensor:
    """(M, V) products of states and head as logits: in float32 where the architecture caps them, else as they are."""
    return product if softcap is None else product.float().div_(softcap).tanh_().mul_(softcap)


class _TokenLogProb(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, softcap: float | None
    ) -> tuple[Tensor, Tensor]:
        rows = hidden.shape[0]
        log_prob = torch.empty(rows, dtype=torch.float32)
        entropy = torch.empty(rows, dtype=torch.float32)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        ready = 0  # rows whose gradient is known but for the upstream factor
        if needs_hidden or needs_weight:
            ready = min(rows, KEPT_ROWS) if needs_weight else rows
        slope = torch.empty_like(hidden[:ready])
        directions: list[Tensor] = []
        for at in _chunks(0, ready) + _chunks(ready, rows):
            logits = capped(hidden[at] @ weight.t(), softcap)
            is_ready = at.start < ready
            cap_slope = _cap_slope(logits, softcap) if is_ready else None
            log_prob[at], entropy[at] = log_softmax_at(logits, targets[at], temperature, slope=is_ready)
            if is_ready:
                direction = _direction(logits, cap_slope, weight)
                slope[at] = direction @ weight
                directions += [direction] if needs_weight else []
        ctx.temperature, ctx.softcap = temperature, softcap
        ctx.mark_non_differentiable(entropy)
        ctx.save_for_backward(slope, *((hidden, weight, targets, *directions) if needs_weight else ()))
        return log_prob, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        slope, *rest = ctx.saved_tensors
        upstream, ready = grads[0].contiguous(), len(slope)
        grad_ready = slope * upstream[:ready, None].to(slope.dtype)
        if not rest:
            return grad_ready, None, None, None, None
        hidden, weight, targets, *directions = rest
        grad_hidden = torch.empty_like(hidden)
        grad_hidden[:ready] = grad_ready
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        for at, direction in zip(_chunks(0, ready), directions, strict=True):
            grad_weight += direction.t() @ (hidden[at] * upstream[at, None].to(hidden.dtype))
        for at in _chunks(ready, len(hidden)):
            logits = capped(hidden[at] @ weight.t(), ctx.softcap)
            cap_slope = _cap_slope(logits, ctx.softcap)
            log_softmax_slope(logits, targets[at], ctx.temperature, upstream[at])
            direction = _direction(logits, cap_slope, weight)
            grad_hidden[at] = direction @ weight
            grad_weight += direction.t() @ hidden[at]
        return grad_hidden if ctx.needs_input_grad[0] else None, grad_weight.to(weight.dtype), None, None, None


def _chunks(start: int, stop: int) -> list[slice]:
    return [slice(first, min(first + CHUNK_ROWS, stop)) for first in range(start, stop, CHUNK_ROWS)]


def _cap_slope(logits: Tensor, softcap: float | None) -> Tensor | None:
    """d capped logits / d raw ones, from the capped ones."""
    return None if softcap is None else 1 - (logits / softcap).square()


def _direction(slope: Tensor, cap_slope: Tensor | None, weight: Tensor) -> Tensor:
    """The log-probs' slope with respect to raw logits, in the head's number format. Overwrites `slope`."""
    return (slope if cap_slope is None else slope.mul_(cap_slope)).to(weight.dtype)
