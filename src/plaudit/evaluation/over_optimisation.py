"""Over-optimisation: the training reward goes on rising while an independent judge has stopped, or turned.

Distance from the reference is d = sqrt(KL), KL the sequence KL in nats. In Gao, Schulman and Hilton 2022 (arXiv
2210.10760) the judge's gain over the reference follows d (alpha - beta d) for best-of-n and d (alpha - beta log d) for
reinforcement learning; both are linear in alpha and beta, so least squares fits them without a search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Form = Literal["linear", "log"]


class Point(NamedTuple):
    """One moment of one run."""

    step: int
    distance: float  # sqrt of the sequence KL
    proxy: float | None  # mean training reward
    judge: float | None  # mean score of the independent judge
    judge_interval: tuple[float, float] | None
    spread: float | None  # standard deviation between the members of a reward ensemble


class Bound(NamedTuple):
    """A fitted number with its 95 % interval."""

    value: float
    low: float
    high: float


class Fit(NamedTuple):
    """gain(d) = d (alpha - beta d), or d (alpha - beta log d): where it peaks and how far the points lie from it."""

    form: Form
    alpha: Bound
    beta: Bound
    origin: float  # the judge's score at distance 0, to which the gain is added
    peak_distance: float | None  # None when the fitted curve has no peak (beta <= 0)
    residual: float  # root mean square, in the judge's unit
    points: int

    def at(self, distance: float) -> float:
        """The fitted score of the judge at a distance."""
        return self.origin + float(_design(np.array([distance]), self.form)[0] @ (self.alpha.value, self.beta.value))


class Frontier(NamedTuple):
    """What the judge saw along the way, in order of distance."""

    points: list[Point]
    origin: float
    peak: Point  # where the judge scored highest
    last: Point  # the farthest point
    area: float  # mean gain of the judge over the distances reached: the area under its curve over their range
    fit: Fit | None  # None with fewer than four judged points
    declined: bool  # the judge ends below its peak by more than chance (the two intervals do not overlap)


def read_points(
    rows: Sequence[Mapping[str, Any]],
    *,
    kl: str = "held_out_kl",
    proxy: str = "held_out_reward",
    judge: str = "judge",
    spread: str = "ensemble_spread",
) -> list[Point]:
    """Points from the rows of a PPO run's metrics (one a step) that hold a KL and a judge's score.

    KL, proxy and judge are those of the same held-out answers; the spread is that of the training answers of the step.

    A KL estimated by k1 can come out slightly negative near the reference; its distance is 0. The judge's interval
    stands beside it as `<judge>_low` and `<judge>_high`.
    """
    points = []
    for row in rows:
        distance, judged = _number(row.get(kl)), _number(row.get(judge))
        if distance is None or judged is None:
            continue
        low, high = _number(row.get(f"{judge}_low")), _number(row.get(f"{judge}_high"))
        interval = None if low is None or high is None else (low, high)
        points.append(
            Point(
                int(row["step"]),
                math.sqrt(max(distance, 0.0)),
                _number(row.get(proxy)),
                judged,
                interval,
                _number(row.get(spread)),
            )
        )
    return sorted(points, key=lambda p: (p.distance, p.step))


def frontier(points: Sequence[Point], *, form: Form = "log") -> Frontier | None:
    """The judge against the distance; None with fewer than two judged points.

    The origin is the judged point nearest to the reference.
    """
    judged = sorted((p for p in points if p.judge is not None), key=lambda p: (p.distance, p.step))
    if len(judged) < 2:
        return None
    origin = _judge(judged[0])
    peak = max(judged, key=_judge)
    last = judged[-1]
    distances = np.array([p.distance for p in judged])
    gains = np.array([_judge(p) - origin for p in judged])
    span = float(distances[-1] - distances[0])
    area = float(np.trapezoid(gains, distances) / span) if span > 0 else 0.0
    return Frontier(
        judged, origin, peak, last, area, fit(distances, gains, form=form, origin=origin), _apart(last, peak)
    )


def fit(distances: Floats, gains: Floats, *, form: Form, origin: float = 0.0) -> Fit | None:
    """Least squares for alpha and beta; None with fewer than four points beyond distance 0.

    The intervals take the points as independent. Points of one run are not (the same prompts, neighbouring weights), so
    they are a lower bound on the uncertainty; several seeds tell more.
    """
    far = distances > 1e-6  # d = 0 says nothing about alpha and beta, and has no logarithm
    design, target = _design(distances[far], form), gains[far]
    if len(target) < 4 or np.linalg.matrix_rank(design) < 2:
        return None
    found = np.linalg.lstsq(design, target, rcond=None)[0]
    residuals = target - design @ found
    free = len(target) - 2
    covariance = np.linalg.inv(design.T @ design) * float(residuals @ residuals) / free
    reach = float(stats.t.ppf(0.975, free)) * np.sqrt(np.diag(covariance))
    alpha, beta = (Bound(float(v), float(v - r), float(v + r)) for v, r in zip(found, reach, strict=True))
    peak = None
    if beta.value > 0:
        peak = alpha.value / (2 * beta.value) if form == "linear" else math.exp(min(alpha.value / beta.value - 1, 50.0))
    return Fit(form, alpha, beta, origin, peak, float(np.sqrt(np.mean(residuals**2))), len(target))


def judge_at(points: Sequence[Point], distance: float) -> float | None:
    """The judge's score at a distance, by straight lines between points; None outside the distances reached.

    Compares runs at equal KL: the coefficient that reached farther is not thereby the better one.
    """
    judged = sorted((p for p in points if p.judge is not None), key=lambda p: p.distance)
    if not judged or not judged[0].distance <= distance <= judged[-1].distance:
        return None
    return float(np.interp(distance, [p.distance for p in judged], [_judge(p) for p in judged]))


def verdict(found: Frontier) -> str:
    """What happened, in words a reader can check against the chart."""
    peak, last = found.peak, found.last
    far = f"sqrt(KL) = {last.distance:.2f}"
    if peak is found.points[0]:
        started = f"The judge never rose above its score at the start ({found.origin:.3g})"
        return f"{started}; the run went to {far}{_reward_went_on(found, peak)}."
    if peak is last:
        return f"The judge was still rising where the run ended, at {far}: no over-optimisation is visible up to there."
    rose = f"The judge stopped rising at sqrt(KL) = {peak.distance:.2f} (step {peak.step}, score {_judge(peak):.3g})"
    fell = f"at {far} it stands at {_judge(last):.3g}"
    sure = ", a decline beyond chance" if found.declined else ", a difference within chance"
    if any(p.judge_interval is None for p in (peak, last)):
        sure = ""
    return f"{rose}; {fell}{sure}{_reward_went_on(found, peak)}."


def _reward_went_on(found: Frontier, peak: Point) -> str:
    last = found.last
    if peak.proxy is None or last.proxy is None or peak is last:
        return ""
    if last.proxy > peak.proxy:
        return f", while the training reward went on from {peak.proxy:.3g} to {last.proxy:.3g}"
    return f", and the training reward did not rise either ({peak.proxy:.3g} to {last.proxy:.3g})"


def _design(distances: Floats, form: Form) -> Floats:
    """(n, 2) columns that multiply alpha and beta."""
    bend = distances * distances if form == "linear" else distances * np.log(np.maximum(distances, 1e-300))
    return np.column_stack([distances, -bend])


def _apart(last: Point, peak: Point) -> bool:
    if last.judge_interval is None or peak.judge_interval is None:
        return False
    return last.judge_interval[1] < peak.judge_interval[0]


def _judge(point: Point) -> float:
    assert point.judge is not None
    return point.judge


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
