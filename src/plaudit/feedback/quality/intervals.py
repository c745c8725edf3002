"""Estimates with bootstrap intervals over prompts, from sums: a statistic of 100,000 pairs costs matrix products.

Pairs of one ranking, and rankings of one prompt, are not independent, so whole prompts are drawn (Efron 1979 with
clusters; Davison & Hinkley 1997, 2.4). Every statistic here is a function of sums over prompts: a resample is a vector
of how often each prompt was drawn, times those sums.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plaudit.core.seeding import derive

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

DRAWS = 1000
MIN_PAIRS = 30
"""Fewer pairs make no figure: its interval would span most of the scale and people would read the middle."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval, or the reason why there is none.

    value:    None where undefined; `reason` says why.
    low, high: None where the data set no limit; `reason` says why.
    n:        what was counted (pairs, judgments); clusters: how many independent units that is.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int
    reason: str | None = None


class Wanted(NamedTuple):
    """A statistic of column totals.

    statistic:     totals (…, S) -> values (…), not a number where it is undefined.
    n:             what it counts; below `MIN_PAIRS` there is no figure.
    why_undefined: the reason to give when it is undefined on the data themselves.
    """

    statistic: Statistic
    n: int
    why_undefined: str


def undefined(reason: str, n: int = 0, clusters: int = 0) -> Estimate:
    """No figure, and why."""
    return Estimate(None, None, None, n, clusters, reason)


def sums_by(cluster: NDArray[np.int64], columns: Floats) -> Floats:
    """(G, S): the columns (n, S) summed within each cluster that occurs; G of them."""
    _, index = np.unique(cluster, return_inverse=True)
    groups = int(index.max()) + 1 if len(index) else 0
    summed = [np.bincount(index, column, minlength=groups) for column in columns.T]
    return np.stack(summed, axis=1).astype(np.float64)


def resample(sums: Floats, *, seed: int, draws: int = DRAWS) -> Floats:
    """(draws, S): the column totals of (G, S) sums in samples of G clusters drawn with replacement."""
    groups = len(sums)
    generator = np.random.default_rng(derive(seed, "cluster bootstrap"))
    totals = np.empty((draws, sums.shape[1]))
    rows = max(1, 4_000_000 // max(1, groups))  # bounds memory
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        drawn = generator.integers(groups, size=(count, groups)) + np.arange(count)[:, None] * groups
        times = np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, groups)
        totals[start : start + count] = times.astype(np.float64) @ sums
    return totals


def bootstrap(sums: Floats, wanted: Mapping[str, Wanted], *, seed: int = 0) -> dict[str, Estimate]:
    """The statistics of (G, S) cluster sums, each with the percentile interval of the same resamples."""
    drawn = (
        resample(sums, seed=seed) if len(sums) > 1 and any(item.n >= MIN_PAIRS for item in wanted.values()) else None
    )
    return {name: _estimate(item, sums, drawn) for name, item in wanted.items()}


def _estimate(wanted: Wanted, sums: Floats, drawn: Floats | None) -> Estimate:
    n, groups = wanted.n, len(sums)
    if n < MIN_PAIRS:
        return undefined(f"{n} of the {MIN_PAIRS} pairs that a figure needs", n, groups)
    value = float(wanted.statistic(sums.sum(axis=0)))
    if not np.isfinite(value):
        return undefined(wanted.why_undefined, n, groups)
    if drawn is None:
        return Estimate(value, None, None, n, groups, "one prompt says nothing about others: no interval")
    values = wanted.statistic(drawn)
    usable = values[np.isfinite(values)]
    if len(usable) < 0.9 * len(values):
        return Estimate(
            value, None, None, n, groups, "undefined in many resamples, for too little variation: no interval"
        )
    low, high = np.quantile(usable, [0.025, 0.975])
    return Estimate(value, float(low), float(high), n, groups)


def share(hits: int, trials: int) -> Statistic:
    """The ratio of two columns of totals."""

    def ratio(totals: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return totals[..., hits] / totals[..., trials]

    return ratio
