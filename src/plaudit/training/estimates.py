"""Means with their uncertainty, for what recipes measure on held-out prompts while they train."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special


class Estimate(NamedTuple):
    """A mean with its 95 % interval; the ends are None where there are too few prompts to tell."""

    value: float
    low: float | None
    high: float | None
    prompts: int

    def __str__(self) -> str:
        interval = "" if self.low is None else f" ({self.low:.4g} to {self.high:.4g})"
        return f"{self.value:.4g}{interval}"

    def as_dict(self) -> dict[str, float | int | None]:
        """For `summary.json`."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.prompts}

    def named(self, name: str) -> dict[str, float | None]:
        """For `metrics.jsonl`: the value under `name`, its ends beside it."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def mean_over_prompts(sums: Sequence[float], counts: Sequence[float]) -> Estimate:
    """sum(sums) / sum(counts), where each prompt contributes a sum and how many units (tokens, pairs) it is over.

    What belongs to one prompt varies together, so the prompt is the unit that the interval is about, not the token: a
    ratio estimator with linearised variance (Cochran 1977, section 6.3) and Student's t.

    Raises:
        ValueError: the counts add up to 0.
    """
    value, error, prompts = _ratio(sums, counts)
    if prompts < 2:
        return Estimate(value, None, None, prompts)
    half = _quantile(prompts) * error
    return Estimate(value, value - half, value + half, prompts)


def share_over_prompts(sums: Sequence[float], counts: Sequence[float]) -> Estimate:
    """`mean_over_prompts` of a proportion: Wilson's interval, at the sample size that the clustered error amounts to.

    It stays inside 0..1. Where all prompts agree, their number is the sample size: sixteen right of sixteen do not
    prove that the next one is right.

    Raises:
        ValueError: the counts add up to 0.
    """
    value, error, prompts = _ratio(sums, counts)
    if prompts < 2:
        return Estimate(value, None, None, prompts)
    # Wilson's formula takes the variance with divisor n, not n - 1.
    variance = error**2 * (prompts - 1) / prompts
    size = value * (1 - value) / variance if variance > 0 else float(prompts)
    z = _quantile(prompts)
    centre = (value + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * math.sqrt(value * (1 - value) / size + z**2 / (4 * size**2))
    return Estimate(value, max(0.0, centre - half), min(1.0, centre + half), prompts)


def _ratio(sums: Sequence[float], counts: Sequence[float]) -> tuple[float, float, int]:
    """Value, standard error and number of prompts."""
    y, n = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if n.sum() <= 0:
        raise ValueError("there is nothing to average: the counts add up to 0")
    value = float(y.sum() / n.sum())
    prompts = len(y)
    spread = float(np.square(y - value * n).sum())
    return value, math.sqrt(prompts / max(1, prompts - 1) * spread) / float(n.sum()), prompts


def _quantile(prompts: int) -> float:
    return float(special.stdtrit(prompts - 1, 0.975))  # scipy.stats has it too, and takes 0.3 s to import
