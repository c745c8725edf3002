"""Log-probabilities of given tokens from hidden states, without keeping logits.

The vocabulary head dominates small models: 49,152 logits in float32 are 200 KB a token. Here logits live in chunks of
rows. Since a token's log-probability is one number, its gradient with respect to the hidden state is one row scaled by
the upstream gradient, so with a frozen head it is computed in the forward pass and no logits are made twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

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


def capped_float32(product: Tensor, softcap: float | None) -> Tensor:
    """(M, V) products of states and head as logits in float32, capped where the architecture caps them."""
    logits = product.float()
    return logits if softcap is None else logits.div_(softcap).tanh_().mul_(softcap)


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
            logits = capped_float32(hidden[at] @ weight.t(), softcap)
            cap_slope = None if softcap is None or slope is None else 1 - (logits / softcap).square()
            chosen, probs, ent = _log_softmax_at(logits, targets[at], temperature)
            log_prob[at], entropy[at] = chosen, ent
            if slope is not None:
                slope[at] = _slope(probs, targets[at], temperature, cap_slope, weight)
        ctx.temperature, ctx.softcap = temperature, softcap
        ctx.mark_non_differentiable(entropy)
        if needs_weight:
            ctx.save_for_backward(hidden, weight, targets)
        else:
            ctx.save_for_backward(slope)
        return log_prob, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        upstream = grads[0]
        if len(ctx.saved_tensors) == 1:
            (slope,) = ctx.saved_tensors
            return (slope * upstream[:, None].to(slope.dtype) if slope is not None else None), None, None, None, None
        hidden, weight, targets = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, hidden.shape[0], CHUNK_ROWS):
            at = slice(start, start + CHUNK_ROWS)
            logits = capped_float32(hidden[at] @ weight.t(), ctx.softcap)
            cap_slope = None if ctx.softcap is None else 1 - (logits / ctx.softcap).square()
            _, probs, _ = _log_softmax_at(logits, targets[at], ctx.temperature)
            direction = (
                _logit_slope(probs, targets[at], ctx.temperature, cap_slope).mul_(upstream[at, None]).to(weight.dtype)
            )
            if grad_hidden is not None:
                grad_hidden[at] = direction @ weight
            grad_weight += direction.t() @ hidden[at]
        return grad_hidden, grad_weight.to(weight.dtype), None, None, None


def _log_softmax_at(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """(R, V) logits, overwritten, to the targets' log-probs (R,), all probabilities (R, V) and entropies (R,)."""
    if temperature != 1.0:
        logits.div_(temperature)
    normaliser = torch.logsumexp(logits, dim=-1)
    chosen = logits.gather(1, targets[:, None]).squeeze(1) - normaliser
    probs = torch.softmax(logits, dim=-1)
    entropy = normaliser - torch.linalg.vecdot(probs, logits)
    return chosen, probs, entropy


def _logit_slope(probs: Tensor, targets: Tensor, temperature: float, cap_slope: Tensor | None) -> Tensor:
    """d log p(target) / d raw logits: (one-hot - p) / temperature, times the cap's slope. Overwrites ``probs``."""
    direction = probs.neg_()
    direction[torch.arange(len(targets)), targets] += 1.0
    if temperature != 1.0:
        direction.div_(temperature)
    return direction if cap_slope is None else direction.mul_(cap_slope)


def _slope(probs: Tensor, targets: Tensor, temperature: float, cap_slope: Tensor | None, weight: Tensor) -> Tensor:
    return _logit_slope(probs, targets, temperature, cap_slope).to(weight.dtype) @ weight
