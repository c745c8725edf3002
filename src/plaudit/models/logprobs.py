"""Log-probabilities of given tokens from hidden states, without keeping logits.

The vocabulary head dominates small models: 49,152 logits in float32 are 200 KB a token. Here logits live in chunks of
rows. Since a token's log-probability is one number, its gradient with respect to the hidden state is one row scaled by
the upstream gradient, so with a frozen head it is computed in the forward pass and no logits are made twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from plaudit.models.kernels.ops import log_softmax_at, log_softmax_slope

CHUNK_ROWS = 512


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
        slope = torch.empty_like(hidden) if needs_hidden and not needs_weight else None
        for start in range(0, rows, CHUNK_ROWS):
            at = slice(start, start + CHUNK_ROWS)
            logits = capped(hidden[at] @ weight.t(), softcap)
            cap_slope = _cap_slope(logits, softcap) if slope is not None else None
            chosen = log_softmax_at(logits, targets[at], temperature, slope=slope is not None)
            log_prob[at], entropy[at] = chosen
            if slope is not None:
                slope[at] = _direction(logits, cap_slope, weight) @ weight
        ctx.temperature, ctx.softcap = temperature, softcap
        ctx.mark_non_differentiable(entropy)
        if needs_weight:
            ctx.save_for_backward(hidden, weight, targets)
        else:
            ctx.save_for_backward(slope)
        return log_prob, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        upstream = grads[0].contiguous()
        if len(ctx.saved_tensors) == 1:
            (slope,) = ctx.saved_tensors
            return (slope * upstream[:, None].to(slope.dtype) if slope is not None else None), None, None, None, None
        hidden, weight, targets = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, hidden.shape[0], CHUNK_ROWS):
            at = slice(start, start + CHUNK_ROWS)
            logits = capped(hidden[at] @ weight.t(), ctx.softcap)
            cap_slope = _cap_slope(logits, ctx.softcap)
            log_softmax_slope(logits, targets[at], ctx.temperature, upstream[at])
            direction = _direction(logits, cap_slope, weight)
            if grad_hidden is not None:
                grad_hidden[at] = direction @ weight
            grad_weight += direction.t() @ hidden[at]
        return grad_hidden, grad_weight.to(weight.dtype), None, None, None


def _cap_slope(logits: Tensor, softcap: float | None) -> Tensor | None:
    """d capped logits / d raw ones, from the capped ones."""
    return None if softcap is None else 1 - (logits / softcap).square()


def _direction(slope: Tensor, cap_slope: Tensor | None, weight: Tensor) -> Tensor:
    """The log-probs' slope with respect to raw logits, in the head's number format. Overwrites `slope`."""
    return (slope if cap_slope is None else slope.mul_(cap_slope)).to(weight.dtype)
