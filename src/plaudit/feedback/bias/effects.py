"""What every probe of the bias audit gives: an effect with its interval, n and p-value, and a sentence about it.

No evidence is not evidence of none: a sentence says how large an effect the data still allow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from plaudit.evaluation.statistics import holm
from plaudit.feedback.quality.intervals import Estimate, undefined
from plaudit.feedback.quality.numerics import t_quantile, t_two_sided
from plaudit.feedback.quality.outcomes import Floats, Ints

LEAST_PAIRS = 30
LEAST_CLUSTERS = 10
"""Fewer prompts (or judgments) make the clustered variance itself a guess."""
EVERYBODY = "everybody"


@dataclass(frozen=True, slots=True)
class Effect:
    """One probe of one labeler, or of everybody.

    probe:    "position", "length", "lists", "headers", "bold", "speed", "suggestion", or "group: …".
    labeler:  name, or `EVERYBODY`.
    effect:   in the unit that `scale` names; 0 is no effect.
    p:        two-sided; adjusted: by Holm over all tests of the audit. None where there was no test.
    sentence: what it says in plain words.
    """

    probe: str
    labeler: str
    scale: str
    effect: Estimate
    p: float | None
    adjusted: float | None = None
    sentence: str = ""

    @property
    def found(self) -> bool:
        """Whether the audit found the effect at 5 % over all its tests."""
        return self.adjusted is not None and self.adjusted <= 0.05


def no_effect(probe: str, labeler: str, scale: str, reason: str, n: int = 0) -> Effect:
    """A probe that could not be done, and why."""
    return Effect(probe, labeler, scale, undefined(reason, n), None)


def mean_effect(values: Floats, clusters: Ints) -> tuple[Estimate, float | None]:
    """Mean of the values with clustered t interval and p-value against 0; a reason where there are too few."""
    n = len(values)
    groups, index = np.unique(clusters, return_inverse=True)
    if n < LEAST_PAIRS or len(groups) < LEAST_CLUSTERS:
        return undefined(too_few(n, len(groups)), n, len(groups)), None
    mean = float(values.mean())
    residuals = np.bincount(index, values - mean)
    error = float(np.sqrt(len(groups) / (len(groups) - 1) * (residuals @ residuals))) / n
    return with_test(mean, error, n, len(groups))


def with_test(value: float, error: float, n: int, clusters: int) -> tuple[Estimate, float | None]:
    """The t interval and p-value of an estimate with a clustered standard error."""
    if not error > 0:
        return Estimate(value, None, None, n, clusters, "all clusters alike: no interval"), None
    reach = t_quantile(0.975, clusters - 1) * error
    return Estimate(value, value - reach, value + reach, n, clusters), t_two_sided(value / error, clusters - 1)


def too_few(n: int, clusters: int) -> str:
    return f"{n} pairs of {clusters} clusters; {LEAST_PAIRS} of {LEAST_CLUSTERS} are needed"


def adjust(effects: Sequence[Effect]) -> list[Effect]:
    """The effects with p-values adjusted over all of them, and a sentence each."""
    tested = [effect.p for effect in effects if effect.p is not None]
    adjusted = iter(holm(tested))
    done = [replace(effect, adjusted=None if effect.p is None else next(adjusted)) for effect in effects]
    return [replace(effect, sentence=sentence(effect)) for effect in done]


def sentence(effect: Effect) -> str:
    """The effect in words. Never says that there is no bias: at most that the data show none, and what they allow."""
    who = "Labelers" if effect.labeler == EVERYBODY else effect.labeler
    found = effect.effect
    if found.value is None:
        return f"{who}, {effect.probe}: no figure ({found.reason})."
    if found.low is None or found.high is None:
        return f"{who}, {effect.probe}: {signed(found.value)} {effect.scale}, without interval ({found.reason})."
    span = f"{signed(found.value)} {effect.scale} (95 % {signed(found.low)} to {signed(found.high)}, n = {found.n})"
    if effect.found:
        return f"{who}, {effect.probe}: evidence of an effect, {span}."
    return f"{who}, {effect.probe}: no evidence of an effect in these data, which allow {span}."


def signed(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")
