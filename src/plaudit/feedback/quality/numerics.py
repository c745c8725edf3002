# pyright: basic
"""The functions of scipy that statistics of judgments need, with types (scipy itself has none)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

Floats = NDArray[np.float64]


class Minimum(NamedTuple):
    point: Floats
    converged: bool


def digamma(values: Floats) -> Floats:
    return special.digamma(values)


def sigmoid(values: Floats) -> Floats:
    return special.expit(values)


def minimise(loss: Callable[[Floats], tuple[float, Floats]], start: Floats, *, iterations: int) -> Minimum:
    """The minimum of a function that gives its value and gradient, by L-BFGS."""
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": iterations})
    return Minimum(found.x, bool(found.success))


def t_quantile(probability: float, freedom: float) -> float:
    return float(stats.t.ppf(probability, freedom))


def t_two_sided(statistic: float, freedom: float) -> float:
    """Probability of a Student t at least this far from 0, in either direction."""
    return float(2 * stats.t.sf(abs(statistic), freedom))


def beta_quantiles(a: float, b: float, probabilities: tuple[float, ...]) -> list[float]:
    return [float(value) for value in stats.beta.ppf(probabilities, a, b)]


def beta_below(threshold: float, a: float, b: float) -> float:
    """Probability that a Beta variable is below the threshold."""
    return float(stats.beta.cdf(threshold, a, b))
