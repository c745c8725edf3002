"""Elo and the win rate at equal length: E4, E7."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from plaudit.core.errors import DataError
from plaudit.evaluation import ratings


def test_e4_elo_scale() -> None:
    assert ratings.elo_win_rate(100) == pytest.approx(0.640, abs=5e-4)
    assert pytest.approx(173.72, abs=5e-3) == ratings.ELO_SCALE
    assert ratings.elo_win_rate(-100) == pytest.approx(1 - ratings.elo_win_rate(100))


def test_one_pair_of_systems_in_closed_form() -> None:
    """With one parameter, Firth's penalty adds half a win to each side: (k + 1/2) / (n + 1)."""
    found = ratings.elo_ratings(["a"] * 10, ["b"] * 10, [1] * 7 + [0] * 3, range(10))
    difference = found["a"].value - found["b"].value
    assert ratings.elo_win_rate(difference) == pytest.approx(7.5 / 11)


def _games(n: int, strength: dict[str, float]) -> tuple[list[str], list[str], np.ndarray]:
    generator = np.random.default_rng(0)
    names = list(strength)
    first = generator.integers(len(names), size=n)
    second = (first + generator.integers(1, len(names), size=n)) % len(names)
    values = np.array(list(strength.values()))
    rate = 1 / (1 + 10 ** (-(values[first] - values[second]) / 400))
    outcomes = (generator.random(n) < rate).astype(float)
    return [names[i] for i in first], [names[i] for i in second], outcomes


def test_ratings_agree_with_logistic_regression_and_cover_the_truth() -> None:
    truth = {"base": -150.0, "best": 130.0, "good": 20.0}
    first, second, outcomes = _games(3000, truth)
    found = ratings.elo_ratings(first, second, outcomes, range(3000))
    design = np.array([[(f == n) - (s == n) for n in truth] for f, s in zip(first, second, strict=True)], float)
    fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(design[:, :2], outcomes).coef_[0]
    expected = np.append(fitted, 0.0)
    expected = ratings.ELO_SCALE * (expected - expected.mean())
    assert [found[n].value for n in truth] == pytest.approx(expected, abs=0.5)
    assert sum(r.value for r in found.values()) == pytest.approx(0)
    for name, value in truth.items():
        assert found[name].low < value < found[name].high


def test_the_order_of_sides_and_games_is_irrelevant() -> None:
    first, second, outcomes = _games(60, {"x": 0.0, "y": 100.0, "z": 50.0})
    there = ratings.elo_ratings(first, second, outcomes, range(60))
    back = ratings.elo_ratings(second[::-1], first[::-1], 1 - outcomes[::-1], range(60))
    for name, rating in there.items():
        assert back[name] == pytest.approx(rating, abs=1e-6)


def test_an_unbeaten_system_has_a_finite_rating() -> None:
    found = ratings.elo_ratings(["a"] * 20, ["b"] * 20, [1] * 20, range(20))
    assert 300 < found["a"].value - found["b"].value < 1500


def test_unconnected_systems_are_an_error() -> None:
    with pytest.raises(DataError, match="do not connect"):
        ratings.elo_ratings(["a", "c"], ["b", "d"], [1, 0], range(2))


def _verdicts_by_length(n: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    d = generator.normal(1, 1, n)
    return (generator.random(n) < 1 / (1 + np.exp(-2 * np.tanh(d / d.std())))).astype(float), d


def test_e7_a_verdict_by_length_alone_is_one_half_at_equal_length() -> None:
    outcomes, d = _verdicts_by_length(200_000)
    assert outcomes.mean() == pytest.approx(0.723, abs=8e-3)
    found = ratings.length_controlled(outcomes, d, range(len(d)))
    assert found is not None
    assert found.value == pytest.approx(0.5, abs=8e-3)


def test_e7_without_a_length_effect_the_rate_stays() -> None:
    generator = np.random.default_rng(0)
    d = generator.normal(0, 1, 20_000)
    outcomes = (generator.random(20_000) < 0.6).astype(float)
    found = ratings.length_controlled(outcomes, d, range(20_000))
    assert found is not None
    assert found.low < outcomes.mean() < found.high
    assert found.value == pytest.approx(0.6, abs=0.02)


def test_length_control_agrees_with_logistic_regression() -> None:
    outcomes, d = _verdicts_by_length(5_000)
    x = np.tanh(d / d.std())[:, None]
    model = LogisticRegression(C=np.inf, tol=1e-10).fit(x, outcomes)
    found = ratings.length_controlled(outcomes, d, range(5_000))
    assert found is not None
    assert found.value == pytest.approx(1 / (1 + np.exp(-model.intercept_[0])), abs=2e-3)


def test_length_control_is_symmetric_and_copies_narrow_nothing() -> None:
    outcomes, d = _verdicts_by_length(300)
    there = ratings.length_controlled(outcomes, d, range(300))
    back = ratings.length_controlled(1 - outcomes, -d, range(300))
    assert there is not None
    assert back is not None
    assert (back.value, back.low, back.high) == pytest.approx((1 - there.value, 1 - there.high, 1 - there.low))
    copies = np.tile(outcomes, 5), np.tile(d, 5)
    clustered = ratings.length_controlled(*copies, list(range(300)) * 5)
    independent = ratings.length_controlled(*copies, range(1500))
    assert clustered is not None
    assert independent is not None
    width = there.high - there.low
    assert clustered.high - clustered.low == pytest.approx(width, rel=0.2)
    assert independent.high - independent.low == pytest.approx(width / 5**0.5, rel=0.05)


def test_a_clean_sweep_stays_inside_the_open_interval() -> None:
    found = ratings.length_controlled([1] * 30, np.random.default_rng(0).normal(size=30), range(30))
    assert found is not None
    assert 0.7 < found.low < found.value < 1.0


def test_lengths_that_cannot_control() -> None:
    assert ratings.length_controlled([1, 0, 1], [5, 5, 5], range(3)) is None
    equal = ratings.length_controlled([1, 0, 1], [0, 0, 0], range(3))
    assert equal is not None
    assert equal.value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("outcomes", "differences"),
    [
        ([1, 0.5, 1], [-8, 0, -3]),
        ([1, 0.5], [-7, 3]),
        ([0, 0, 0.5], [4, -7, 7]),
    ],
)
def test_a_handful_of_comparisons_has_an_answer(outcomes: list[float], differences: list[int]) -> None:
    found = ratings.length_controlled(outcomes, differences, range(len(outcomes)))
    assert found is not None
    assert 0 < found.low < found.value < found.high < 1


def test_lengths_that_hardly_differ_cannot_be_told_from_quality() -> None:
    assert ratings.length_controlled([0, 1, 0, 1], [7, 5, 6, 6], range(4)) is None
