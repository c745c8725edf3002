"""Fitting into a token limit: whole answers or none, and every loss counted."""

import pytest

from plaudit.core.errors import DataError
from plaudit.core.records import TokenGroup
from plaudit.datasets.fit import fit_groups

END = 9


def group(prompt: int, *lengths: int) -> TokenGroup:
    return TokenGroup((1,) * prompt, tuple((2,) * (length - 1) + (END,) for length in lengths))


def test_everything_that_fits_is_unchanged():
    groups = [group(3, 7), group(8, 2)]
    fitted = fit_groups(groups, 10)
    assert (fitted.kept, fitted.indices, fitted.responses) == (groups, [0, 1], [(0,), (0,)])
    assert (fitted.dropped, fitted.lost, fitted.by_cause) == (0, 0, {})


def test_rankings_lose_single_responses_while_two_remain():
    groups = [group(4, 3, 7, 6, 2), group(4, 7, 7, 6), group(10, 1, 1), group(4, 6, 6)]
    fitted = fit_groups(groups, 10, max_lost=1)
    assert fitted.indices == [0, 3]
    assert fitted.responses == [(0, 2, 3), (0, 1)]
    assert fitted.kept[0] == group(4, 3, 6, 2)
    assert (fitted.dropped, fitted.lost) == (2, 6)
    assert fitted.by_cause == {"response too long": 3, "left without a partner": 1, "prompt too long": 2}
    assert all(response[-1] == END for kept in fitted.kept for response in kept.responses)


def test_pairs_go_as_a_whole_and_sides_are_counted():
    groups = [group(4, 7, 2), group(4, 2, 7), group(4, 9, 9), group(4, 2, 2)]
    fitted = fit_groups(groups, 10, max_lost=1, sides=("chosen", "rejected"))
    assert fitted.indices == [3]
    assert fitted.by_cause == {
        "response too long: chosen": 2, "response too long: rejected": 2, "left without a partner": 2,
    }  # fmt: skip


def test_demonstrations_go_when_they_do_not_fit():
    assert fit_groups([group(4, 7), group(4, 6)], 10, max_lost=0.5).indices == [1]


def test_the_share_that_may_be_lost_has_an_exact_border():
    groups = [group(4, 7)] + [group(4, 6)] * 19
    assert fit_groups(groups, 10).lost == 1
    with pytest.raises(
        DataError, match=r"1 of 19 .* context=10 .*response too long: 1.*5%.* Raise context .* 11 tokens"
    ):
        fit_groups(groups[:-1], 10, key="context")


def test_nothing_left_is_an_error_even_where_all_may_be_lost():
    with pytest.raises(DataError, match="2 of 2 responses"):
        fit_groups([group(4, 7, 7)], 10, max_lost=1)
    with pytest.raises(DataError, match="0 of 0 responses"):
        fit_groups([], 10)
