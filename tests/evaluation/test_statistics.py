"""Intervals, tests and power: E1 to E3, E5, E6, E8; checked against scipy and by simulated coverage."""

import json
from itertools import product

import numpy as np
import pytest
from scipy import stats

from plaudit.core.errors import DataError
from plaudit.evaluation import statistics


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(60, 100, 0.502, 0.691), (10, 10, 0.722, 1.0), (0, 10, 0.0, 0.278), (550, 1000, 0.519, 0.581)],
)
def test_e1_wilson(successes: int, n: int, low: float, high: float) -> None:
    found = statistics.wilson(successes, n)
    assert found.low == pytest.approx(low, abs=1e-3)
    assert found.high == pytest.approx(high, abs=1e-3)
    other = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=1e-9)


def test_wilson_needs_trials() -> None:
    for successes, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(DataError, match="no proportion"):
            statistics.wilson(successes, n)


@pytest.mark.parametrize(("successes", "n", "p"), [(60, 100, 0.0569), (61, 100, 0.0352), (8, 10, 0.109)])
def test_e2_exact_binomial(successes: int, n: int, p: float) -> None:
    assert statistics.binomial_test(successes, n) == pytest.approx(p, abs=5e-4)


def test_e2_mcnemar() -> None:
    found = statistics.mcnemar(15, 5)
    assert found.p_value == pytest.approx(0.0414, abs=1e-4)
    assert found.chi_square == pytest.approx(4.05)
    assert statistics.mcnemar(5, 15) == found
    assert statistics.mcnemar(0, 0) == (1.0, 0.0)


@pytest.mark.parametrize(("rate", "n"), [(0.52, 4903), (0.55, 783), (0.60, 194)])
def test_e3_sample_size(rate: float, n: int) -> None:
    assert statistics.sample_size(rate) == pytest.approx(n, abs=1)
    assert statistics.sample_size(1 - rate) == statistics.sample_size(rate)
    assert statistics.power(rate, n) == pytest.approx(0.8, abs=2e-3)


def test_sample_size_of_no_difference() -> None:
    with pytest.raises(DataError, match="no sample size"):
        statistics.sample_size(0.5)


def test_e5_design_effect() -> None:
    assert statistics.design_effect(4, 0.25) == 1.75


def test_e6_swapping_systems_and_identical_systems() -> None:
    outcomes, prompts = np.array([1, 0.5, 1, 0, 1, 1, 0.5, 1]), list("aabbccdd")
    there, back = (statistics.clustered_proportion(x, prompts) for x in (outcomes, 1 - outcomes))
    assert there.low is not None
    assert back.value == pytest.approx(1 - there.value)
    assert (back.low, back.high) == pytest.approx((1 - there.high, 1 - there.low))
    ties = statistics.clustered_proportion([0.5] * 50, range(50))
    assert ties.value == 0.5
    assert ties.low < 0.5 < ties.high


@pytest.mark.parametrize("method", ["clustered_proportion", "clustered_mean", "cluster_bootstrap"])
def test_e8_interval_of_an_a_a_test_covers_one_half(method: str) -> None:
    """Two samples of one policy, 60 prompts with 4 correlated comparisons each, ties included; 400 repeats.

    Coverage of a 95 % interval: 380 of 400 in expectation, s.d. 4.4. Treating the 240 comparisons as independent
    covers far less.
    """
    generator = np.random.default_rng(0)
    prompts = np.repeat(np.arange(60), 4)
    covered = naive = 0
    for repeat in range(400):
        lean = generator.normal(0, 1.5, 60)[prompts]  # a prompt whose first sample is good meets four judgments
        a, b = generator.logistic(size=(2, 240))
        outcomes = 0.5 * (1 + np.sign(np.round(lean + a - b)))
        if method == "cluster_bootstrap":
            found = statistics.cluster_bootstrap(outcomes, prompts, seed=repeat, resamples=1000)
        else:
            found = getattr(statistics, method)(outcomes, prompts)
        covered += found.low <= 0.5 <= found.high
        alone = statistics.clustered_proportion(outcomes, range(240))
        naive += alone.low <= 0.5 <= alone.high
    assert 365 <= covered <= 395
    assert naive < 350


def test_one_value_a_cluster_is_the_ordinary_t_interval() -> None:
    values = np.random.default_rng(0).normal(3, 2, 25)
    found = statistics.clustered_mean(values, range(25))
    low, high = stats.t.interval(0.95, 24, loc=values.mean(), scale=stats.sem(values))
    assert found == pytest.approx((values.mean(), low, high, 25, 25))


def test_equal_clusters_are_the_t_interval_of_their_means() -> None:
    table = np.random.default_rng(0).normal(size=(12, 5))
    found = statistics.clustered_mean(table.ravel(), np.repeat(np.arange(12), 5))
    means = table.mean(axis=1)
    low, high = stats.t.interval(0.95, 11, loc=means.mean(), scale=stats.sem(means))
    assert found[:3] == pytest.approx((means.mean(), low, high))


def test_repeating_every_value_narrows_nothing() -> None:
    values = np.random.default_rng(0).normal(size=20)
    for method in (statistics.clustered_mean, lambda v, c: statistics.cluster_bootstrap(v, c, seed=1)):
        once, often = method(values, range(20)), method(np.tile(values, 9), list(range(20)) * 9)
        assert often[:3] == pytest.approx(once[:3])
        assert (often.n, often.clusters) == (180, 20)


def test_proportion_without_ties_is_wilson_with_a_t_quantile() -> None:
    outcomes = [1] * 60 + [0] * 40
    found = statistics.clustered_proportion(outcomes, range(100))
    quantile = stats.t.ppf(0.975, 99)
    confidence = 2 * stats.norm.cdf(quantile) - 1
    assert found[:3] == pytest.approx(statistics.wilson(60, 100, confidence=confidence)[:3])


def test_ten_wins_of_ten_prove_little() -> None:
    found = statistics.clustered_proportion([1.0] * 30, list(range(10)) * 3)
    assert found.value == found.high == 1.0
    assert found.low == pytest.approx(0.66, abs=0.01)  # ten prompts, not thirty comparisons


def test_one_prompt_says_nothing_about_others() -> None:
    assert statistics.clustered_mean([1.0, 2.0], ["p", "p"]) == (1.5, None, None, 2, 1)
    assert statistics.cluster_bootstrap([1.0, 2.0], ["p", "p"], seed=0) == (1.5, None, None, 2, 1)
    assert statistics.clustered_proportion([1.0, 0.0], ["p", "p"]) == (0.5, 0.0, 1.0, 2, 1)


def test_bootstrap_is_seeded_and_near_the_t_interval() -> None:
    generator = np.random.default_rng(0)
    values, prompts = generator.normal(size=600), np.repeat(np.arange(200), 3)
    found = statistics.cluster_bootstrap(values, prompts, seed=5)
    assert found == statistics.cluster_bootstrap(values, prompts, seed=5)
    assert found != statistics.cluster_bootstrap(values, prompts, seed=6)
    assert found[:3] == pytest.approx(statistics.clustered_mean(values, prompts)[:3], abs=0.02)


def test_bootstrap_of_ragged_clusters_agrees_with_a_plain_loop() -> None:
    values, prompts = [1.0, 5.0, 2.0, 2.0, 0.0, 7.0], ["a", "b", "b", "c", "c", "c"]
    by_prompt = {p: [v for v, q in zip(values, prompts, strict=True) if q == p] for p in "abc"}
    means = [np.mean([v for p in drawn for v in by_prompt[p]]) for drawn in product("abc", repeat=3)]
    found = statistics.cluster_bootstrap(values, prompts, seed=0, resamples=50_000)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975], method="inverted_cdf")))


def test_paired_permutation_agrees_with_enumeration() -> None:
    sums = np.array([0.9, 1.4, -0.3, 2.0, 0.8, 0.1, -0.6])
    exact = np.mean([abs(np.dot(s, sums)) >= abs(sums.sum()) - 1e-9 for s in product((-1, 1), repeat=7)])
    values, prompts = np.repeat(sums / 2, 2), np.repeat(np.arange(7), 2)  # two equal differences a prompt
    found = statistics.paired_permutation_test(values, prompts, seed=0, permutations=40_000)
    assert found == pytest.approx(exact, abs=0.01)


def test_permutation_test_agrees_with_scipy() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.normal(0.8, 1, 12), generator.normal(0, 1, 9)

    def difference(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return x.mean(axis=axis) - y.mean(axis=axis)

    other = stats.permutation_test((a, b), difference, n_resamples=40_000, vectorized=True, rng=2).pvalue
    assert statistics.permutation_test(a, b, seed=0, permutations=40_000) == pytest.approx(other, abs=0.01)
    assert statistics.permutation_test(a + 9, b, seed=0, permutations=999) == 1 / 1000
    assert statistics.permutation_test([1.0, 1.0], [1.0], seed=0) == 1.0


def test_holm() -> None:
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.6, 0.7]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_results_are_json() -> None:
    found = statistics.clustered_mean(np.array([1.0, 2.0, 4.0]), np.array(["a", "b", "b"]))
    assert json.loads(json.dumps(found._asdict(), allow_nan=False))["clusters"] == 2
    json.dumps(statistics.mcnemar(3, 1)._asdict(), allow_nan=False)


@pytest.mark.parametrize(
    ("values", "clusters", "reason"),
    [
        ([], [], "at least one"),
        ([1.0], ["a", "b"], "1 values but 2 clusters"),
        ([1.0, float("nan")], ["a", "b"], "value 1 is nan"),
    ],
)
def test_unusable_values(values: list[float], clusters: list[str], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        statistics.clustered_mean(values, clusters)


def test_a_score_is_no_proportion() -> None:
    with pytest.raises(DataError, match="1 win"):
        statistics.clustered_proportion([2.0, 0.0], ["a", "b"])
