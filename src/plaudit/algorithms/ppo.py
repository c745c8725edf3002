"""Losses and diagnostics of proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347).

`denominator` is the number of response tokens in the whole optimiser step, so the results of micro-batches add up.
`ratio_max` is the exception: take the largest.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from plaudit.algorithms.kl import k2, k3
from plaudit.algorithms.masked import masked_var, token_mean, zero_outside


class PolicyLoss(NamedTuple):
    """All () tensors; everything but `loss` is detached."""

    loss: Tensor
    approx_kl: Tensor
    """Half the mean squared log-ratio: how far this step has moved from the sampling policy."""
    clip_fraction: Tensor
    """Share of tokens whose gradient the clip has cut off."""
    ratio_mean: Tensor
    ratio_max: Tensor


class ValueLoss(NamedTuple):
    """Both () tensors."""

    loss: Tensor
    clip_fraction: Tensor


def clipped_surrogate(ratio: Tensor, advantages: Tensor, *, clip: float) -> Tensor:
    """max(-A ratio, -A clip(ratio, 1 - clip, 1 + clip)) per token; equation 7, negated. Shapes: equal -> the same."""
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


def dual_clipped_surrogate(ratio: Tensor, advantages: Tensor, *, clip: float, bound: float) -> Tensor:
    """`clipped_surrogate`, held below bound * |A| where A < 0. Shapes: equal -> the same.

    Without the bound a token that became far more likely and has A < 0 has an unlimited loss. Ye et al. 2020
    (arXiv 1912.09729), equation 8; they use bound 3.

    Raises:
        ValueError: `bound` is not above 1.
    """
    if bound <= 1:
        raise ValueError(f"bound is {bound}; it must be above 1, or it would cut tokens that have not moved")
    loss = clipped_surrogate(ratio, advantages, clip=clip)
    return torch.where(advantages < 0, torch.minimum(loss, -bound * advantages), loss)


def policy_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip: float = 0.2,
    dual_clip: float | None = None,
    denominator: float | Tensor,
) -> PolicyLoss:
    """Clipped policy loss, token mean. Shapes: four times (B, T) (or (M,) packed) -> ().

    `old_log_prob` are the sampling policy's, at the same temperature. `dual_clip` bounds the loss of negative
    advantages with `dual_clipped_surrogate`.
    """
    # Padding is set to ratio 1 before the exponential, so that its content can neither overflow nor reach a gradient.
    log_ratio = zero_outside(log_prob - old_log_prob, mask)
    ratio = log_ratio.exp()
    if dual_clip is None:
        losses = clipped_surrogate(ratio, advantages, clip=clip)
    else:
        losses = dual_clipped_surrogate(ratio, advantages, clip=clip, bound=dual_clip)
    with torch.no_grad():
        cut = torch.where(advantages < 0, ratio < 1 - clip, ratio > 1 + clip)
        if dual_clip is not None:
            cut = cut | ((advantages < 0) & (ratio > dual_clip))
        approx_kl = token_mean(0.5 * log_ratio**2, mask, denominator=denominator)
        clip_fraction = token_mean(cut.to(ratio.dtype), mask, denominator=denominator)
        ratio_mean = token_mean(ratio, mask, denominator=denominator)
        ratio_max = ratio.max()
    loss = token_mean(losses, mask, denominator=denominator)
    return PolicyLoss(loss, approx_kl, clip_fraction, ratio_mean, ratio_max)


def value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    *,
    clip: float = 0.2,
    denominator: float | Tensor,
) -> ValueLoss:
    """0.5 mean max((V - ret)^2, (clip(V, V_old - clip, V_old + clip) - ret)^2). Shapes: four times (B, T) -> ().

    The clip is of the code of Ziegler et al. 2019; the PPO paper has the plain square.
    """
    values, old_values, returns = (zero_outside(x, mask) for x in (values, old_values, returns))
    clipped = torch.maximum(torch.minimum(values, old_values + clip), old_values - clip)
    plain_error, clipped_error = (values - returns) ** 2, (clipped - returns) ** 2
    cut = (clipped_error > plain_error).to(values.dtype)
    return ValueLoss(
        loss=0.5 * token_mean(torch.maximum(plain_error, clipped_error), mask, denominator=denominator),
        clip_fraction=token_mean(cut, mask, denominator=denominator),
    )


def kl_loss(
    log_prob: Tensor, ref_log_prob: Tensor, mask: Tensor, *, estimator: str, denominator: float | Tensor
) -> Tensor:
    """KL to the reference as a differentiated loss term, token mean. Shapes: three times (B, T) -> ().

    On samples of the current policy, k2 has the gradient of the reverse KL(pi || ref) and k3 (the choice of GRPO) that
    of the forward KL(ref || pi): two different regularisers with different optima. Both ignore how the policy changes
    the prefixes it will meet, which the KL inside the reward (`advantages.shaped_rewards`) does not.

    Raises:
        ValueError: `estimator` is "k1" (its expected gradient is zero) or unknown.
    """
    if estimator == "k1":
        raise ValueError(
            "k1 as a loss term does nothing: the expected gradient of log pi - log ref under pi is zero. "
            "Put k1 into the reward, or use k2 (reverse KL) or k3 (forward KL) as the loss"
        )
    estimators = {"k2": k2, "k3": k3}
    if estimator not in estimators:
        raise ValueError(f"unknown KL estimator {estimator!r} for a loss term; use k2 or k3")
    log_prob, ref_log_prob = zero_outside(log_prob, mask), zero_outside(ref_log_prob, mask)
    return token_mean(estimators[estimator](log_prob, ref_log_prob), mask, denominator=denominator)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 - Var(returns - values) / Var(returns) over response tokens. Shapes: three times (B, T) -> ().

    1 is a perfect critic, 0 one that knows nothing, below 0 one that misleads. Where the returns do not vary the ratio
    is undefined; the value is then 1 if the error does not vary either, else 0.
    """
    error, total = masked_var(returns - values, mask), masked_var(returns, mask)
    if float(total) == 0:
        return torch.ones_like(total) if float(error) == 0 else torch.zeros_like(total)
    return 1 - error / total


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the next-token distribution, in nats. Shapes: (..., V) -> (...)."""
    log_probs = torch.log_softmax(logits, dim=-1)
    # A token masked out with -inf has probability 0, and 0 * -inf must be 0.
    return -(log_probs.exp() * log_probs.masked_fill(log_probs == float("-inf"), 0.0)).sum(dim=-1)
