"""Whether judgments change: agreement, ties and speed over time and by version of the guidelines."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plaudit.evaluation.statistics import Interval, clustered_mean, holm
from plaudit.feedback.quality.agreement import agrees_with_others
from plaudit.feedback.quality.intervals import Estimate, Floats, undefined
from plaudit.feedback.quality.labelers import proportion
from plaudit.feedback.quality.numerics import t_quantile, t_two_sided
from plaudit.feedback.quality.outcomes import Ints, Outcomes
from plaudit.feedback.quality.records import Judgment

PERIODS = 8
"""Time is cut into so many parts with equally many judgments."""


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time, or a version of the guidelines; times in milliseconds UTC, None where unknown."""

    name: str
    start: int | None
    end: int | None
    judgments: int
    majority: Estimate
    tie_rate: Estimate
    seconds: Estimate


@dataclass(frozen=True, slots=True)
class Change:
    """How a figure of the last period (or version) differs from the first; `p` is adjusted for the figures tested."""

    figure: str
    difference: Estimate
    p: float | None


@dataclass(frozen=True, slots=True)
class Drift:
    periods: tuple[Period, ...]
    versions: tuple[Period, ...]
    changes: tuple[Change, ...]
    reason: str | None
    """Why there are no periods."""


def drift(judgments: Sequence[Judgment], table: Outcomes) -> Drift:
    """Periods of equally many judgments, versions of the guidelines, and the change from first to last period.

    judgments, table: each labeler's first of each item (`outcomes.first_judgments`), and its pairs.
    """
    figures = _figures(judgments, table)
    versions = np.array([-1 if judgment.guideline is None else judgment.guideline for judgment in judgments])
    by_version = tuple(
        _period(f"version {version}", judgments, np.flatnonzero(versions == version), figures)
        for version in np.unique(versions).tolist()
        if version >= 0
    )
    timed = [index for index, judgment in enumerate(judgments) if judgment.at is not None]
    if len(timed) < 2 * PERIODS:
        reason = f"{len(timed)} judgments have a time; {2 * PERIODS} are needed"
        return Drift((), by_version, (), reason)
    order = np.array(sorted(timed, key=lambda index: judgments[index].at or 0), dtype=np.int64)
    parts = np.array_split(order, PERIODS)
    periods = tuple(
        _period(f"period {number}", judgments, part.astype(np.int64), figures)
        for number, part in enumerate(parts, start=1)
    )
    return Drift(periods, by_version, _changes(parts[0], parts[-1], figures), None)


@dataclass(frozen=True, slots=True)
class _Figures:
    """Values of each figure, with the judgment and the prompt of each value."""

    values: dict[str, Floats]
    judgment: dict[str, Ints]
    prompt: dict[str, Ints]

    def of(self, figure: str, chosen: Ints) -> tuple[Floats, Ints]:
        rows = np.isin(self.judgment[figure], chosen)
        return self.values[figure][rows], self.prompt[figure][rows]


def _figures(judgments: Sequence[Judgment], table: Outcomes) -> _Figures:
    agrees = agrees_with_others(table)
    decided = np.flatnonzero(agrees >= 0)
    timed = np.array([at for at, judgment in enumerate(judgments) if judgment.seconds is not None], dtype=np.int64)
    prompts = np.zeros(len(judgments), dtype=np.int64)
    prompts[table.judgment] = table.prompt
    seconds = np.array([judgments[int(at)].seconds or 0.0 for at in timed], dtype=np.float64)
    return _Figures(
        values={
            "majority": agrees[decided].astype(np.float64),
            "tie_rate": (table.outcome == 0).astype(np.float64),
            "seconds": seconds,
        },
        judgment={"majority": table.judgment[decided], "tie_rate": table.judgment, "seconds": timed},
        prompt={"majority": table.prompt[decided], "tie_rate": table.prompt, "seconds": prompts[timed]},
    )


def _period(name: str, judgments: Sequence[Judgment], chosen: Ints, figures: _Figures) -> Period:
    times = [at for index in chosen if (at := judgments[int(index)].at) is not None]
    values, prompts = figures.of("seconds", chosen)
    return Period(
        name=name,
        start=min(times, default=None),
        end=max(times, default=None),
        judgments=len(chosen),
        majority=proportion(*figures.of("majority", chosen), "strict pairs on which the others have a majority"),
        tie_rate=proportion(*figures.of("tie_rate", chosen), "pairs"),
        seconds=_estimate(clustered_mean(values, prompts)) if len(values) else undefined("no times were measured"),
    )


def _changes(first: Ints, last: Ints, figures: _Figures) -> tuple[Change, ...]:
    found = [(name, *_difference(figures.of(name, first), figures.of(name, last))) for name in figures.values]
    tested = [p for _, _, p in found if p is not None]
    adjusted = iter(holm(tested))
    return tuple(Change(name, difference, None if p is None else next(adjusted)) for name, difference, p in found)


def _difference(first: tuple[Floats, Ints], last: tuple[Floats, Ints]) -> tuple[Estimate, float | None]:
    """Last minus first, from two clustered means (Welch); prompts that occur in both make the interval too wide."""
    if min(len(set(first[1].tolist())), len(set(last[1].tolist()))) < 5:
        return undefined("fewer than five prompts in the first or in the last period"), None
    a, b = clustered_mean(*first), clustered_mean(*last)
    change = b.value - a.value
    reach = float(np.hypot(_reach(a), _reach(b)))
    freedom = min(a.clusters, b.clusters) - 1
    p = 1.0 if reach == 0 else t_two_sided(t_quantile(0.975, freedom) * change / reach, freedom)
    return Estimate(change, change - reach, change + reach, a.n + b.n, a.clusters + b.clusters), p


def _estimate(found: Interval) -> Estimate:
    return Estimate(found.value, found.low, found.high, found.n, found.clusters)


def _reach(found: Interval) -> float:
    return np.inf if found.low is None or found.high is None else (found.high - found.low) / 2
