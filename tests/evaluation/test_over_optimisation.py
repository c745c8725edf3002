import math

import numpy as np
import pytest

from plaudit.evaluation.over_optimisation import Point, fit, frontier, judge_at, read_points, verdict


def points(judge, proxy=lambda d: d, *, half: float | None = 0.05, count: int = 21, reach: float = 4.0):
    return [
        Point(i, d, proxy(d), judge(d), None if half is None else (judge(d) - half, judge(d) + half), None)
        for i, d in enumerate(np.linspace(0, reach, count).tolist())
    ]


def test_noiseless_points_give_back_alpha_and_beta_best_of_n():
    """G3: alpha .5, beta .12, peak at 2.0833."""
    d = np.linspace(0, 4, 15)
    found = fit(d, d * (0.5 - 0.12 * d), form="linear")
    assert found.alpha.value == pytest.approx(0.5, abs=1e-8)
    assert found.beta.value == pytest.approx(0.12, abs=1e-8)
    assert found.peak_distance == pytest.approx(2.0833, abs=1e-4)
    assert found.at(found.peak_distance) == pytest.approx(0.52083, abs=1e-4)


def test_noiseless_points_give_back_alpha_and_beta_reinforcement_learning():
    """G3: alpha .5, beta .15, peak at 10.312 of height 1.5468."""
    d = np.linspace(0.5, 20, 30)
    found = fit(d, d * (0.5 - 0.15 * np.log(d)), form="log")
    assert found.alpha.value == pytest.approx(0.5, abs=1e-8)
    assert found.beta.value == pytest.approx(0.15, abs=1e-8)
    assert found.peak_distance == pytest.approx(10.312, abs=1e-3)
    assert found.at(found.peak_distance) == pytest.approx(1.5468, abs=1e-4)


def test_intervals_of_the_fit_cover_the_truth():
    covered = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        d = np.linspace(0.2, 4, 12)
        found = fit(d, d * (0.5 - 0.12 * d) + generator.normal(0, 0.05, 12), form="linear")
        covered += found.beta.low <= 0.12 <= found.beta.high
    assert 180 <= covered <= 199


def test_distance_zero_needs_no_logarithm_and_too_few_points_no_fit():
    assert fit(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 1.0, 0.0]), form="log") is None
    assert fit(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, 1.0, 0.0, -1.0]), form="log") is not None


def test_a_judge_that_turns_is_named_with_the_place_and_the_reward():
    found = frontier(points(lambda d: 1 + d * (0.8 - 0.2 * d)))
    assert found.peak.distance == pytest.approx(2.0)
    assert found.declined
    said = verdict(found)
    assert "stopped rising at sqrt(KL) = 2.00" in said
    assert "beyond chance" in said
    assert "training reward went on from 2 to 4" in said


def test_a_decline_inside_the_intervals_is_not_called_one():
    said = verdict(frontier(points(lambda d: 1 + d * (0.8 - 0.2 * d), half=2.0)))
    assert "within chance" in said


def test_a_rising_judge_and_a_falling_one():
    assert "still rising" in verdict(frontier(points(lambda d: d)))
    assert "never rose" in verdict(frontier(points(lambda d: -d)))


def test_area_is_the_mean_gain_over_the_distances():
    found = frontier(points(lambda d: 2.0 + d, count=41))
    assert found.origin == 2.0
    assert found.area == pytest.approx(2.0)  # mean of d over 0..4


def test_points_come_from_held_out_rows_only_and_in_order_of_distance():
    rows = [
        {"step": 0, "held_out_kl": -0.01, "held_out_reward": 0.0, "judge": 1.0, "judge_low": 0.9, "judge_high": 1.1},
        {"step": 1, "kl": 0.5, "reward": 1.0},
        {"step": 2, "held_out_kl": 9.0, "held_out_reward": 3.0, "judge": 1.5, "ensemble_spread": 0.4},
        {"step": 3, "held_out_kl": 4.0, "held_out_reward": 2.0, "judge": None},
        {"step": 4, "held_out_kl": 4.0, "held_out_reward": 2.5, "judge": 2.0},
    ]
    found = read_points(rows)
    assert [(p.step, p.distance) for p in found] == [(0, 0.0), (4, 2.0), (2, 3.0)]
    assert found[0].judge_interval == (0.9, 1.1)
    assert found[2].spread == 0.4


def test_runs_compare_at_equal_distance():
    found = points(lambda d: d * d, count=5)
    assert judge_at(found, 2.0) == pytest.approx(4.0)
    assert judge_at(found, 2.5) == pytest.approx((4 + 9) / 2)
    assert judge_at(found, 4.5) is None


def test_one_point_makes_no_frontier():
    assert frontier([Point(0, 0.0, 0.0, 1.0, None, None)]) is None
    assert not math.isnan(frontier(points(lambda d: d, count=2)).area)
