"""Ratings from wins and losses: Elo, and the win rate at equal length. Both are logistic regressions."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import expit

from plaudit.core.errors import DataError
from plaudit.evaluation.statistics import Interval, clustered_proportion

Floats = NDArray[np.float64]

ELO_SCALE = 400 / math.log(10)
"""Elo points for one unit of log-odds (173.7)."""


def elo_win_rate(difference: float) -> float:
    """Probability that a system rated `difference` Elo points higher wins."""
    return float(expit(difference / ELO_SCALE))


def elo_ratings(
    first: Sequence[str],
    second: Sequence[str],
    outcomes: ArrayLike,
    clusters: Sequence[Any],
    *,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Elo rating of each system, mean 0, by maximum likelihood of the Bradley-Terry model. All arguments (n,).

    `outcomes`: 1 where `first` won, 0.5 tie, 0 where it lost. Fitted as in `length_controlled`, so an unbeaten system
    has a finite rating.

    Raises:
        DataError: two systems were never compared, not even through others, so their difference is unknown.
    """
    names = sorted({*first, *second})
    place = {name: i for i, name in enumerate(names)}
    contest = np.zeros((len(first), len(names)))
    rows = np.arange(len(first))
    contest[rows, [place[name] for name in first]] += 1.0
    contest[rows, [place[name] for name in second]] -= 1.0
    # Only differences are identified: estimate all but the last against it, then move the mean to 0.
    design = contest[:, :-1]
    if np.linalg.matrix_rank(design) < len(names) - 1:
        raise DataError(f"the comparisons do not connect the systems {names}; compare each with at least one other")
    fit = _fit(design, outcomes, clusters)
    centre = np.eye(len(names))[:, :-1] - 1 / len(names)
    return {name: fit.interval(centre[i], ELO_SCALE, confidence) for i, name in enumerate(names)}


def length_controlled(
    outcomes: ArrayLike, length_differences: ArrayLike, clusters: Sequence[Any], *, confidence: float = 0.95
) -> Interval | None:
    """The win rate there would be if the answers were equally long. All arguments (n,).

    Logistic regression of the outcome (1 win, 0.5 tie, 0 loss) on tanh(d / std(d)), d the length of this system's
    answer minus the other's, read at d = 0: the length term of AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475)
    for one pair of systems. The interval is on the logit scale.

    None where every d is nearly the same number other than 0: length and quality cannot be told apart.
    """
    d = np.asarray(length_differences, dtype=np.float64)
    spread = float(d.std())
    if spread == 0:
        return None if d.any() else clustered_proportion(outcomes, clusters, confidence=confidence)
    length = np.tanh(d / spread)
    if float(length.std()) < 1e-2:  # all on one side, and so far off that the curve is flat there
        return None
    fit = _fit(np.column_stack([np.ones_like(d), length]), outcomes, clusters)
    logit = fit.interval(np.array([1.0, 0.0]), 1.0, confidence)
    return logit._replace(value=float(expit(logit.value)), low=_sigmoid(logit.low), high=_sigmoid(logit.high))


class _Fit(NamedTuple):
    coefficients: Floats
    model_covariance: Floats
    clustered_covariance: Floats
    n: int
    clusters: int

    def interval(self, contrast: Floats, scale: float, confidence: float) -> Interval:
        """Interval of scale * (contrast . coefficients)."""
        value = float(scale * (contrast @ self.coefficients))
        if self.clusters == 1:
            return Interval(value, None, None, self.n, 1)
        # A separated fit leaves residuals near 0 and a clustered variance that is far too small: take the larger.
        variance = max(contrast @ self.model_covariance @ contrast, contrast @ self.clustered_covariance @ contrast)
        reach = float(stats.t.ppf(0.5 + confidence / 2, self.clusters - 1)) * scale * math.sqrt(variance)
        return Interval(value, value - reach, value + reach, self.n, self.clusters)


def _fit(design: Floats, outcomes: ArrayLike, clusters: Sequence[Any]) -> _Fit:
    """Logistic regression with Firth's penalty (the Jeffreys prior), by Newton's method.

    The penalty removes the first-order bias and keeps the estimate finite where one side wins everything. Firth 1993;
    Heinze & Schemper 2002, equation 2. The clustered covariance is the sandwich of Liang & Zeger 1986.
    """
    y = np.asarray(outcomes, dtype=np.float64)
    if not len(y) == len(design) == len(clusters):
        raise DataError(
            f"{len(y)} outcomes, {len(design)} comparisons and {len(clusters)} clusters; numbers must agree"
        )
    if not ((y >= 0) & (y <= 1)).all():
        raise DataError("outcomes must lie in 0..1: 1 win, 0.5 tie, 0 loss")
    beta = np.zeros(design.shape[1])
    for _ in range(1000):
        p = expit(design @ beta)
        covariance: Floats = np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None]))
        leverage = p * (1 - p) * np.einsum("ij,jk,ik->i", design, covariance, design)
        # The penalty is worth `leverage` comparisons with outcome 1/2 beside each real one (Heinze & Schemper 2002,
        # section 2), so they belong in the curvature: without them, steps on few comparisons swing for ever.
        curvature: Floats = design.T @ (design * ((1 + leverage) * p * (1 - p))[:, None])
        step = np.linalg.solve(curvature, design.T @ (y - p + leverage * (0.5 - p)))
        if float(np.abs(step).max()) < 1e-10:
            break
        beta += step * min(1.0, 1.0 / float(np.abs(step).max()))
    else:
        raise AssertionError("the penalised likelihood is bounded and smooth; Newton's method must converge")
    index = np.unique(np.asarray(clusters), return_inverse=True)[1]
    groups = int(index.max()) + 1
    scores = np.zeros((groups, design.shape[1]))
    np.add.at(scores, index, design * (y - p)[:, None])
    correction = groups / (groups - 1) if groups > 1 else 1.0
    return _Fit(beta, covariance, correction * covariance @ (scores.T @ scores) @ covariance, len(y), groups)


def _sigmoid(z: float | None) -> float | None:
    return None if z is None else float(expit(z))
