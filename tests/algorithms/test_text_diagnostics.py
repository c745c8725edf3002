"""Repetition, variety and length of token sequences."""

from math import log

import pytest

from plaudit.algorithms import diagnostics


def test_distinct_counts_over_the_whole_set() -> None:
    assert diagnostics.distinct([[1, 2, 1, 2], [1, 2]], n=2) == 2 / 4
    assert diagnostics.distinct([[1, 2, 3]], n=1) == 1.0


def test_repetition_of_a_loop_and_of_a_short_text() -> None:
    assert diagnostics.repetition([7] * 11, n=2) == 0.9
    assert diagnostics.repetition([1, 2, 3, 4], n=2) == 0.0
    assert diagnostics.repetition([1], n=2) == 0.0


def test_entropy_falls_when_text_collapses() -> None:
    assert diagnostics.ngram_entropy([[1, 2], [3, 4]], n=1) == pytest.approx(log(4))
    assert diagnostics.ngram_entropy([[1, 1], [1, 1]], n=1) == 0.0
    assert diagnostics.ngram_entropy([[1, 2, 1, 2]], n=2) == pytest.approx(log(3) - 2 / 3 * log(2))


def test_lengths() -> None:
    assert diagnostics.length_summary([4, 1, 8, 8], limit=8) == (5.25, 6.0, 8, 0.5)
    assert diagnostics.length_summary([3, 1, 2], limit=8).median == 2


def test_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="3-grams"):
        diagnostics.distinct([[1, 2]], n=3)
    with pytest.raises(ValueError, match="no responses"):
        diagnostics.length_summary([], limit=8)
