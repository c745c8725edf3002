import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.core.errors import DataError
from plaudit.core.records import Comparison, Message, Ranking, Source, prompt_key, user_prompt

text = st.text()
prompts = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), text), max_size=4).map(tuple)
probabilities = st.floats(0, 1)
comparisons = st.builds(
    Comparison, prompts, text, text, margin=st.none() | st.floats(-9, 9), label=probabilities, weight=st.floats(0, 9)
)


@given(comparisons)
def test_swapping_twice_gives_the_same_judgment(comparison: Comparison) -> None:
    twice = comparison.swap().swap()
    assert (twice.chosen, twice.rejected, twice.margin) == (comparison.chosen, comparison.rejected, comparison.margin)
    assert math.isclose(twice.label, comparison.label, abs_tol=1e-15)


def test_swap_turns_label_and_margin_round() -> None:
    swapped = Comparison(user_prompt("Q"), "good", "bad", margin=2.0, label=0.9).swap()
    assert (swapped.chosen, swapped.rejected, swapped.margin) == ("bad", "good", -2.0)
    assert swapped.label == pytest.approx(0.1)


@given(prompts, prompts)
def test_prompt_key_tells_conversations_apart(one: tuple[Message, ...], other: tuple[Message, ...]) -> None:
    assert (prompt_key(one) == prompt_key(other)) == (one == other)


def test_prompt_key_is_stable_across_processes_and_versions() -> None:
    # Splits and seeds depend on it: another value here means other splits for every user.
    assert prompt_key(user_prompt("Name a colour.")) == "1c34deeb0907d36e25d6eb2d1f2b0a77"


def test_prompt_key_sees_where_a_message_ends_and_who_speaks() -> None:
    keys = {
        prompt_key(prompt)
        for prompt in (
            (Message("user", "ab"),),
            (Message("user", "a"), Message("user", "b")),
            (Message("system", "ab"),),
            (Message("usera", "b"),),
        )
    }
    assert len(keys) == 4


def test_a_broken_record_names_its_line() -> None:
    where = Source("rankings.jsonl", 12)
    prompt = user_prompt("Q")
    with pytest.raises(DataError, match=r"rankings.jsonl:12: 2 responses but 3 ranks"):
        Ranking(prompt, ("a", "b"), (1, 2, 3), source=where)
    with pytest.raises(DataError, match="rank 0; ranks count from 1"):
        Ranking(prompt, ("a", "b"), (0, 1), source=where)
    with pytest.raises(DataError, match="two or more responses, found 1"):
        Ranking(prompt, ("a",), (1,), source=where)
    with pytest.raises(DataError, match=r"label 1.5 is no probability"):
        Comparison(prompt, "a", "b", label=1.5, source=where)
    with pytest.raises(DataError, match="label nan"):
        Comparison(prompt, "a", "b", label=math.nan, source=where)
    with pytest.raises(DataError, match="weight -1"):
        Comparison(prompt, "a", "b", weight=-1.0, source=where)
    with pytest.raises(DataError, match="margin inf"):
        Comparison(prompt, "a", "b", margin=math.inf, source=where)
