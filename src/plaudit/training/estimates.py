"""Means with their uncertainty, for what recipes measure on held-out prompts while they train."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


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
    y, n = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if n.sum() <= 0:
        raise ValueError("there is nothing to average: the counts add up to 0")
    value = float(y.sum() / n.sum())
    prompts = len(y)
    if prompts < 2:
        return Estimate(value, None, None, prompts)
    residuals = y - value * n
    error = float(np.sqrt(prompts / (prompts - 1) * np.square(residuals).sum()) / n.sum())
    half = float(stats.t.ppf(0.975, prompts - 1)) * error
    return Estimate(value, value - half, value + half, prompts)
