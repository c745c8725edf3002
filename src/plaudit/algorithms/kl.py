"""KL divergence of the policy from its reference, from samples: three estimators and the adaptive coefficient.

With y ~ pi and l = log ref(y) - log pi(y), all in nats per token (Schulman, "Approximating KL Divergence", 2020):

    k1 = -l             unbiased, high variance, can be negative
    k2 = l^2 / 2        biased (right to second order), never negative
    k3 = e^l - 1 - l    unbiased, never negative, usually low variance

Value is not gradient. k1 belongs in the reward, where the score-function gradient gives the reverse KL. Differentiated
as a loss, k1 has zero expected gradient, k2 gives the gradient of the reverse KL(pi || ref), k3 that of the *forward*
KL(ref || pi). See `ppo.kl_loss`.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from plaudit.algorithms.masked import sequence_sum

# e^20 = 4.9e8: far past any sane ratio, far from float32 overflow (e^88). Above it k3 is constant: value and gradient
# stop together. Clamping the exponential alone would leave the gradient of -l, which points the wrong way.
MAX_LOG_RATIO = 20.0

Estimator = Callable[[Tensor, Tensor], Tensor]


def k1(log_prob: Tensor, ref_log_prob: Tensor) -> Tensor:
    """log pi - log ref. Shapes: equal, usually (B, T) or (M,) -> the same."""
    return log_prob - ref_log_prob


def k2(log_prob: Tensor, ref_log_prob: Tensor) -> Tensor:
    """Half the squared log-ratio. Shapes: equal -> the same."""
    return 0.5 * (ref_log_prob - log_prob) ** 2


def k3(log_prob: Tensor, ref_log_prob: Tensor) -> Tensor:
    """e^l - 1 - l with l = log ref - log pi, held constant above l = 20. Shapes: equal -> the same."""
    log_ratio = (ref_log_prob - log_prob).clamp(max=MAX_LOG_RATIO)
    return log_ratio.expm1() - log_ratio


ESTIMATORS: dict[str, Estimator] = {"k1": k1, "k2": k2, "k3": k3}


def sequence_kl(log_prob: Tensor, ref_log_prob: Tensor, mask: Tensor, *, estimator: Estimator = k1) -> Tensor:
    """KL of each whole response, in nats: the estimator summed over its tokens. Shapes: (B, T) three times -> (B,).

    With k1 and k3 the sum is unbiased, since each term is unbiased for the KL of its token given the prefix.
    """
    return sequence_sum(estimator(log_prob, ref_log_prob), mask)


class AdaptiveKL(NamedTuple):
    """State of the adaptive controller."""

    coefficient: float
    target: float
    """Nats per sequence."""
    horizon: float
    """Episodes; the coefficient moves by at most 20 % in a horizon."""


def adapt(state: AdaptiveKL, *, observed: float, episodes: int) -> AdaptiveKL:
    """beta * (1 + clip(observed / target - 1, -0.2, 0.2) * episodes / horizon).

    `observed` is the mean sequence KL of a batch of `episodes`. Call it after the rewards of that batch were computed.
    Ziegler et al. 2019 (arXiv 1909.08593), section 2.2, with the constants of their code.

    Raises:
        ValueError: target or horizon is not positive.
    """
    if state.target <= 0 or state.horizon <= 0:
        raise ValueError(f"target {state.target} and horizon {state.horizon} must be positive")
    error = min(max(observed / state.target - 1, -0.2), 0.2)
    return state._replace(coefficient=state.coefficient * (1 + error * episodes / state.horizon))
