"""Merging judgments: each text once, every labeler's pairs kept."""

from __future__ import annotations

import pytest

from plaudit.core.records import Comparison, Ranking, user_prompt
from plaudit.datasets.judgments import JudgedPrompt, keep_texts, merge_judgments, split_judgments

P, Q = user_prompt("p"), user_prompt("q")


def said(judged: JudgedPrompt) -> list[tuple[str, str, float, float, int]]:
    """Pairs with their texts instead of indices."""
    return [
        (judged.texts[pair.first], judged.texts[pair.second], pair.label, pair.margin, pair.gap)
        for _, pair in judged.pairs()
    ]


def test_texts_of_several_labelers_and_comparisons_are_kept_once() -> None:
    merged = merge_judgments(
        [
            Ranking(P, ("a", "b", "c"), (1, 2, 2), labeler="ann"),
            Ranking(Q, ("a", "b"), (2, 1), labeler="ann"),
            Ranking(P, ("c", "a", "b"), (1, 3, 2), labeler="bob"),
            Comparison(P, "d", "a", margin=2.0, labeler="cy"),
        ]
    )
    assert [one.prompt for one in merged] == [P, Q]
    assert merged[0].texts == ("a", "b", "c", "d")
    assert [j.labeler for j in merged[0].judgments] == ["ann", "bob", "cy"]
    assert said(merged[0]) == [
        ("a", "b", 1.0, 0.0, 1),
        ("a", "c", 1.0, 0.0, 1),
        ("b", "c", 0.5, 0.0, 0),
        ("c", "a", 1.0, 0.0, 2),
        ("c", "b", 1.0, 0.0, 1),
        ("b", "a", 1.0, 0.0, 1),
        ("d", "a", 1.0, 2.0, 1),
    ]
    assert said(merged[1]) == [("b", "a", 1.0, 0.0, 1)]


def test_a_soft_label_below_one_half_turns_the_pair_round() -> None:
    (judged,) = merge_judgments([Comparison(P, "a", "b", label=0.25, margin=1.5)])
    assert said(judged) == [("b", "a", 0.75, -1.5, 1)]
    (turned,) = merge_judgments([Comparison(P, "a", "b", label=0.25, margin=1.5).swap()])
    assert said(turned) == said(judged)


def test_pairs_of_identical_texts_say_nothing() -> None:
    (judged,) = merge_judgments([Ranking(P, ("a", "b", "a"), (1, 2, 3))])
    assert judged.texts == ("a", "b")
    assert said(judged) == [("a", "b", 1.0, 0.0, 1), ("b", "a", 1.0, 0.0, 1)]


def test_keeping_some_texts_keeps_what_was_said_about_them() -> None:
    (judged,) = merge_judgments([Ranking(P, ("a", "b", "c"), (3, 1, 2)), Comparison(P, "a", "b")])
    kept = keep_texts(judged, [1, 2])
    assert kept.texts == ("b", "c")
    assert said(kept) == [("b", "c", 1.0, 0.0, 1)]
    assert len(kept.judgments) == 1  # the comparison lost a side


@pytest.mark.parametrize("room", [2, 3, 5, 100])
def test_splitting_a_prompt_keeps_every_pair_exactly_once(room: int) -> None:
    rows = [Comparison(P, f"t{i}", f"t{(i * 3 + 1) % 11}") for i in range(11) if i != (i * 3 + 1) % 11]
    (judged,) = merge_judgments(rows)
    parts = split_judgments(judged, [1] * len(judged.texts), room=room)
    assert sorted(pair for part in parts for pair in said(part)) == sorted(said(judged))
    assert all(len(part.texts) <= max(room, 2) for part in parts)
    assert len(parts) == 1 or room < len(judged.texts)
