"""Learning-rate schedules: S4."""

import pytest

from plaudit.algorithms.schedules import warmup_constant, warmup_cosine, warmup_linear


def test_s4_cosine_to_a_tenth() -> None:
    found = [warmup_cosine(step, warmup=0, total=100, floor=0.1) for step in (0, 50, 100)]
    assert found == pytest.approx([1.0, 0.55, 0.1])


def test_linear_to_zero() -> None:
    assert [warmup_linear(step, warmup=0, total=4) for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_warm_up_starts_above_zero_and_reaches_one() -> None:
    expected = [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [warmup_constant(step, warmup=4) for step in range(5)] == expected
    assert [warmup_cosine(step, warmup=4, total=10, floor=0.1) for step in range(5)] == expected
    assert [warmup_linear(step, warmup=4, total=10) for step in range(5)] == expected


def test_never_rises_after_warm_up() -> None:
    found = [warmup_cosine(step, warmup=3, total=50, floor=0.1) for step in range(3, 51)]
    assert found == sorted(found, reverse=True)


def test_impossible_schedules() -> None:
    with pytest.raises(ValueError, match="outside"):
        warmup_linear(11, warmup=0, total=10)
    with pytest.raises(ValueError, match="leaves nothing"):
        warmup_cosine(10, warmup=10, total=10, floor=0.1)
