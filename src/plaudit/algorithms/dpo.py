"""Direct preference optimisation and its relatives, on the same judged pairs as a reward model.

The scores are implicit rewards: beta * (log pi(y|x) - log ref(y|x)), each log-prob the *sum* over response tokens.
DPO is Bradley-Terry on them, so soft labels, margins, weights, rankings and noise models carry over.
"""

from typing import NamedTuple

from torch import Tensor

from plaudit.algorithms.pairs import Accuracy, Pairs, debias, margins, smooth, strict_accuracy
from plaudit.algorithms.rewards import bradley_terry


class PreferenceLoss(NamedTuple):
    """Losses of P pairs of S responses; everything but `losses` is detached."""

    losses: Tensor
    """(P,); reduce with `pairs.weighted_mean`."""
    rewards: Tensor
    """(S,) implicit rewards."""
    margins: Tensor
    """(P,) implicit reward of `first` minus that of `second`."""
    accuracy: Accuracy
    """Strict: 0 at the first step, where policy and reference are equal. Not a fault."""
    first_log_prob: Tensor
    """(P,) log-prob of `first`. Often falls although its margin grows ("likelihood displacement")."""
    second_log_prob: Tensor
    """(P,)"""


def dpo(log_prob: Tensor, ref_log_prob: Tensor, pairs: Pairs, *, beta: float) -> PreferenceLoss:
    """-log sigma(beta h), h the difference of the pair's log-ratios. Shapes: (S,), (S,) -> (P,).

    Rafailov et al. 2023 (arXiv 2305.18290), equation 7.
    """
    rewards = beta * (log_prob - ref_log_prob)
    return _result(bradley_terry(rewards, pairs), rewards, log_prob, pairs)


def cdpo(log_prob: Tensor, ref_log_prob: Tensor, pairs: Pairs, *, beta: float, flip_rate: float) -> PreferenceLoss:
    """DPO with smoothed labels: the margin stops growing at beta h = ln((1 - rate) / rate). Shapes: as `dpo`.

    Mitchell 2023, "A note on DPO with noisy preferences".
    """
    return dpo(log_prob, ref_log_prob, smooth(pairs, rate=flip_rate), beta=beta)


def robust_dpo(
    log_prob: Tensor, ref_log_prob: Tensor, pairs: Pairs, *, beta: float, flip_rate: float
) -> PreferenceLoss:
    """DPO unbiased for clean labels when these flip with `flip_rate`; can be negative. Shapes: as `dpo`.

    Ray Chowdhury et al. 2024 (arXiv 2403.00409), equation 12.

    Raises:
        ValueError: `flip_rate` is not in 0 <= rate < 0.5.
    """
    return dpo(log_prob, ref_log_prob, debias(pairs, rate=flip_rate), beta=beta)


def ipo(log_prob: Tensor, ref_log_prob: Tensor, pairs: Pairs, *, tau: float) -> PreferenceLoss:
    """(h - 1 / (2 tau))^2 on summed log-ratios: a bounded target instead of a margin without end. Shapes: as `dpo`.

    A label q weighs the two directions, q (h - 1 / (2 tau))^2 + (1 - q) (h + 1 / (2 tau))^2. The target is the same for
    a pair of 5 tokens and one of 500; see `ipo_per_token`. Azar et al. 2023 (arXiv 2310.12036), equation 17.

    Raises:
        ValueError: a margin is not 0.
    """
    if bool((pairs.margin != 0).any()):
        raise ValueError("IPO sets its own target 1 / (2 tau) and has no margin; set margins to 0, or use DPO")
    log_ratio = log_prob - ref_log_prob
    h, target = margins(log_ratio, pairs), 1 / (2 * tau)
    losses = pairs.label * (h - target) ** 2 + (1 - pairs.label) * (h + target) ** 2
    return _result(losses, tau * log_ratio, log_prob, pairs)


def ipo_per_token(
    log_prob: Tensor, ref_log_prob: Tensor, lengths: Tensor, pairs: Pairs, *, tau: float
) -> PreferenceLoss:
    """`ipo` on log-ratios averaged over each response's tokens, so that length does not move the target.

    Shapes: (S,) three times; `lengths` in tokens. `first_log_prob` and `second_log_prob` are then per token.
    """
    return ipo(log_prob / lengths, ref_log_prob / lengths, pairs, tau=tau)


def _result(losses: Tensor, rewards: Tensor, log_prob: Tensor, pairs: Pairs) -> PreferenceLoss:
    rewards, log_prob = rewards.detach(), log_prob.detach()
    return PreferenceLoss(
        losses=losses,
        rewards=rewards,
        margins=margins(rewards, pairs),
        accuracy=strict_accuracy(rewards, pairs),
        first_log_prob=log_prob[pairs.first],
        second_log_prob=log_prob[pairs.second],
    )
