"""Intervals over prompts, against hand calculation, the textbook and simulation."""

import numpy as np
import pytest
from scipy import stats

from plaudit.evaluation.statistics import clustered_mean, clustered_proportion
from plaudit.training.estimates import mean_over_prompts, share_over_prompts


def test_one_unit_a_prompt_gives_the_ordinary_t_interval() -> None:
    values = [1.0, 2.0, 4.0, 9.0]
    found = mean_over_prompts(values, [1] * 4)
    low, high = stats.t.interval(0.95, 3, loc=4.0, scale=stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((4.0, low, high))
    assert found.prompts == 4


def test_agrees_with_the_clustered_intervals_of_evaluation() -> None:
    clusters = [0, 0, 0, 1, 2, 2, 3, 3, 3, 3]
    values = [1, 1, 0, 1, 0, 0, 1, 1, 1, 0]
    sums, counts = np.bincount(clusters, values), np.bincount(clusters)
    for ours, theirs in ((mean_over_prompts, clustered_mean), (share_over_prompts, clustered_proportion)):
        found, expected = ours(list(sums), list(counts)), theirs(values, clusters)
        assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_the_interval_covers_the_truth_where_tokens_of_a_prompt_vary_together() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        counts = generator.integers(1, 30, size=40)
        sums = counts * (2.0 + generator.normal(size=40))  # every token of a prompt has the same loss
        found = mean_over_prompts(sums.tolist(), counts.tolist())
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 2.0 <= found.high
    assert 0.90 <= covered / 400 <= 0.98


def test_unanimous_prompts_still_leave_doubt() -> None:
    found = share_over_prompts([2.0] * 16, [2.0] * 16)
    assert found.value == 1.0
    assert found.low is not None
    assert 0.7 < found.low < 0.9
    assert found.high == 1.0


def test_one_prompt_has_no_interval_and_none_is_an_error() -> None:
    assert mean_over_prompts([3.0], [2.0])[:3] == (1.5, None, None)
    with pytest.raises(ValueError, match="nothing to average"):
        mean_over_prompts([], [])
