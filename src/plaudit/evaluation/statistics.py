"""Intervals, tests and power for evaluation. No number without its interval, and no interval that ignores clustering.

Several answers to one prompt, or several judgments of one answer, are not independent: intervals take the cluster
(prompt) of each value and count clusters, not values. All functions return plain Python numbers, ready for JSON.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from plaudit.core.errors import DataError

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate with its confidence limits."""

    value: float
    low: float | None
    """None where the data set no limit: one cluster says nothing about the spread of others."""
    high: float | None
    n: int
    """Values."""
    clusters: int
    """Independent units; what the width depends on."""


class McNemar(NamedTuple):
    p_value: float
    """Exact, two-sided."""
    chi_square: float
    """With continuity correction; 0 without discordant pairs."""


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a proportion of independent trials. Wilson 1927.

    Raises:
        DataError: n is 0, or successes is not in 0..n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise DataError(f"{successes} successes of {n} trials is no proportion; give 0 <= successes <= n and n >= 1")
    low, high = _wilson(successes / n, n, float(stats.norm.ppf(0.5 + confidence / 2)))
    return Interval(successes / n, low, high, n, n)


def clustered_mean(values: ArrayLike, clusters: Sequence[Any] | NDArray[Any], *, confidence: float = 0.95) -> Interval:
    """Mean of all values with a t interval from the variance between clusters. Shapes: (n,), (n,).

    Standard error of Liang & Zeger 1986 with the factor G / (G - 1) and G - 1 degrees of freedom, G the number of
    clusters. One value a cluster gives the ordinary t interval. For proportions, use `clustered_proportion`.

    Raises:
        DataError: no values, a value that is not finite, or lengths that differ.
    """
    data, index = _checked(values, clusters)
    groups = int(index.max()) + 1
    mean = float(data.mean())
    if groups == 1:
        return Interval(mean, None, None, len(data), 1)
    reach = float(stats.t.ppf(0.5 + confidence / 2, groups - 1)) * math.sqrt(_clustered_variance(data, index))
    return Interval(mean, mean - reach, mean + reach, len(data), groups)


def clustered_proportion(
    values: ArrayLike, clusters: Sequence[Any] | NDArray[Any], *, confidence: float = 0.95
) -> Interval:
    """Win rate or accuracy: mean of values in 0..1 (a tie is 1/2), its limits inside 0..1. Shapes: (n,), (n,).

    Wilson's interval at the effective sample size p (1 - p) / variance, with the clustered variance and t quantile of
    `clustered_mean` (Dean & Pagano 2015). Where the clusters do not vary at all, the number of clusters is the sample
    size: ten wins of ten do not prove that the eleventh is a win. One value a cluster without ties, with the normal
    quantile, is Wilson's own interval.

    Raises:
        DataError: as `clustered_mean`, or a value outside 0..1.
    """
    data, index = _checked(values, clusters)
    if data.min() < 0 or data.max() > 1:
        raise DataError(f"values span {data.min()} to {data.max()}; a proportion takes 1 win, 0.5 tie, 0 loss")
    groups = int(index.max()) + 1
    rate = float(data.mean())
    if groups == 1:
        return Interval(rate, 0.0, 1.0, len(data), 1)
    # (G - 1) / G: Wilson's formula takes the variance with divisor n, not n - 1.
    variance = _clustered_variance(data, index) * (groups - 1) / groups
    size = rate * (1 - rate) / variance if variance > 0 else float(groups)
    low, high = _wilson(rate, size, float(stats.t.ppf(0.5 + confidence / 2, groups - 1)))
    return Interval(rate, low, high, len(data), groups)


def cluster_bootstrap(
    values: ArrayLike,
    clusters: Sequence[Any] | NDArray[Any],
    *,
    seed: int,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Interval:
    """Mean of all values with a percentile interval over resampled clusters. Shapes: (n,), (n,).

    For a paired comparison, pass the differences. Efron 1979, with whole clusters drawn.

    Raises:
        DataError: as `clustered_mean`.
    """
    data, index = _checked(values, clusters)
    sums, counts = np.bincount(index, data), np.bincount(index)
    groups = len(counts)
    if groups == 1:
        return Interval(float(data.mean()), None, None, len(data), 1)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    rows = max(1, 1_000_000 // groups)  # bounds memory
    for start in range(0, resamples, rows):
        drawn = generator.integers(groups, size=(min(rows, resamples - start), groups))
        means[start : start + len(drawn)] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(data.mean()), float(low), float(high), len(data), groups)


def binomial_test(successes: int, n: int, *, rate: float = 0.5) -> float:
    """Exact two-sided p-value against `rate`: the probability of all outcomes no likelier than this one."""
    return float(stats.binomtest(successes, n, rate).pvalue)


def mcnemar(only_first: int, only_second: int) -> McNemar:
    """Do two systems succeed equally often on the same items? From the items that only one of them got right."""
    discordant = only_first + only_second
    if discordant == 0:
        return McNemar(1.0, 0.0)
    chi_square = max(abs(only_first - only_second) - 1, 0) ** 2 / discordant
    return McNemar(binomial_test(only_first, discordant), chi_square)


def paired_permutation_test(
    differences: ArrayLike, clusters: Sequence[Any] | NDArray[Any], *, seed: int, permutations: int = 10_000
) -> float:
    """Two-sided p-value for mean difference 0, by flipping the sign of whole clusters. Shapes: (n,), (n,).

    Counts the data as one of the permutations, so the p-value is never 0 (Phipson & Smyth 2010).

    Raises:
        DataError: as `clustered_mean`.
    """
    data, index = _checked(differences, clusters)
    sums = np.bincount(index, data)
    observed = abs(sums.sum()) * (1 - 1e-12)  # rounding must not turn an equal permutation into a smaller one
    generator = np.random.default_rng(seed)
    extreme = 0
    rows = max(1, 1_000_000 // len(sums))
    for start in range(0, permutations, rows):
        signs = 2.0 * generator.integers(2, size=(min(rows, permutations - start), len(sums))) - 1.0
        extreme += int((np.abs(signs @ sums) >= observed).sum())
    return (1 + extreme) / (1 + permutations)


def permutation_test(first: ArrayLike, second: ArrayLike, *, seed: int, permutations: int = 10_000) -> float:
    """Two-sided p-value for equal means of two independent samples (one value a cluster). Shapes: (n,), (m,).

    Counts the data as one of the permutations, so the p-value is never 0.

    Raises:
        DataError: an empty sample or a value that is not finite.
    """
    a, b = _finite(first), _finite(second)
    pooled = np.concatenate([a, b])
    pooled -= pooled.mean()
    # With the pooled mean removed, the difference of means is a multiple of the sum of the first sample.
    observed = abs(pooled[: len(a)].sum()) * (1 - 1e-12)
    generator = np.random.default_rng(seed)
    extreme = 0
    rows = max(1, 1_000_000 // len(pooled))
    for start in range(0, permutations, rows):
        shuffled = generator.permuted(np.tile(pooled, (min(rows, permutations - start), 1)), axis=1)
        extreme += int((np.abs(shuffled[:, : len(a)].sum(axis=1)) >= observed).sum())
    return (1 + extreme) / (1 + permutations)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for being several, in the given order: reject those at most alpha. Holm 1979."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def sample_size(rate: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """Independent comparisons needed to tell a true win rate from 1/2 in a two-sided test (normal approximation).

    Multiply by `design_effect` where comparisons are clustered.

    Raises:
        DataError: rate is 1/2 (no number is enough) or not between 0 and 1.
    """
    if not 0 < rate < 1 or rate == 0.5:
        raise DataError(f"a win rate of {rate} has no sample size; give one between 0 and 1 that differs from 0.5")
    reach = stats.norm.ppf(1 - alpha / 2) * 0.5 + stats.norm.ppf(power) * math.sqrt(rate * (1 - rate))
    return math.ceil(float(reach / (rate - 0.5)) ** 2)


def power(rate: float, n: int, *, alpha: float = 0.05) -> float:
    """Probability that n independent comparisons tell a true win rate from 1/2; the inverse of `sample_size`."""
    shift = abs(rate - 0.5) * math.sqrt(n)
    return float(stats.norm.cdf((shift - stats.norm.ppf(1 - alpha / 2) * 0.5) / math.sqrt(rate * (1 - rate))))


def design_effect(cluster_size: float, correlation: float) -> float:
    """How much wider clusters make the variance: 1 + (k - 1) rho. Kish 1965."""
    return 1 + (cluster_size - 1) * correlation


def _wilson(rate: float, n: float, quantile: float) -> tuple[float, float]:
    square = quantile * quantile
    scale = 1 + square / n
    middle = (rate + square / (2 * n)) / scale
    reach = quantile * math.sqrt(rate * (1 - rate) / n + square / (4 * n * n)) / scale
    # At rate 0 and 1 the limit is the rate itself, which rounding may pass.
    return min(max(0.0, middle - reach), rate), max(min(1.0, middle + reach), rate)


def _clustered_variance(data: Floats, index: NDArray[np.int64]) -> float:
    """Variance of the mean of `data`, from the residual sums of its clusters."""
    sums = np.bincount(index, data - data.mean())
    groups = len(sums)
    return float(groups / (groups - 1) * (sums @ sums) / len(data) ** 2)


def _checked(values: ArrayLike, clusters: Sequence[Any] | NDArray[Any]) -> tuple[Floats, NDArray[np.int64]]:
    """Values and the number 0.. of each one's cluster."""
    data = _finite(values)
    if len(data) != len(clusters):
        raise DataError(f"{len(data)} values but {len(clusters)} clusters; give one cluster (prompt) a value")
    return data, np.unique(np.asarray(clusters), return_inverse=True)[1]


def _finite(values: ArrayLike) -> Floats:
    data = np.array(values, dtype=np.float64)
    if data.ndim != 1 or not len(data):
        raise DataError(f"values of shape {data.shape}; give a list of at least one number")
    if not np.isfinite(data).all():
        at = int(np.flatnonzero(~np.isfinite(data))[0])
        raise DataError(f"value {at} is {data[at]}; leave out what has no score before taking a mean")
    return data
