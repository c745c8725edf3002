"""Labeler cards and drift: hand-made cases, and real people who click through."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from plaudit.core.records import Ranking, user_prompt
from plaudit.feedback.quality.drift import PERIODS, drift
from plaudit.feedback.quality.labelers import labeler_cards
from plaudit.feedback.quality.outcomes import first_judgments, outcomes
from plaudit.feedback.quality.records import Judgment, from_rankings, item_key


def judgment(labeler: str, number: int, ranks: tuple[int, ...] = (1, 2), **more: object) -> Judgment:
    prompt, texts = user_prompt(f"prompt {number}"), ("first text of four words"[:19], "other text of four")
    return Judgment(item_key(prompt, texts), prompt, texts, ranks, labeler, **more)  # type: ignore[arg-type]


def cards(judged: list[Judgment]) -> dict:
    return {card.labeler: card for card in labeler_cards(judged, outcomes(first_judgments(judged)))}


def test_the_majority_leaves_the_labeler_out():
    # u stands alone against v and w on every item; with u's own vote counted the majority would be the same, so the
    # third item, where only u and v judge, tells: v against u is disagreement, not a draw.
    judged = [judgment(who, n, (1, 2) if who == "u" else (2, 1)) for n in range(10) for who in "uvw"]
    judged += [judgment("u", 50 + n) for n in range(10)]
    found = cards(judged)
    assert found["u"].majority.value == 0
    assert found["u"].majority.n == 10
    assert found["u"].pairs == 20
    # v meets one vote each way: no majority of others.
    assert found["v"].majority.value is None
    assert "0 strict pairs" in (found["v"].majority.reason or "")


def test_ties_speed_and_consistency_by_hand():
    judged = [judgment("u", n, (1, 1) if n < 4 else (1, 2), seconds=0.5 if n < 8 else 5.0, at=n) for n in range(16)]
    judged += [judgment("u", n, (1, 1) if n < 8 else (1, 2), seconds=5.0, at=100 + n) for n in range(16)]
    card = cards(judged)["u"]
    assert card.judgments == 32
    assert card.tie_rate.value == 0.25
    assert card.all_equal.value == 12 / 32
    assert card.too_fast.value == 8 / 32
    assert card.seconds == 5.0
    assert card.consistency.value == 12 / 16
    assert card.consistency.low is not None
    assert 0 < card.consistency.low < 12 / 16


def test_gold_has_a_posterior_and_an_alarm():
    weak = [judgment("weak", n, gold=1.0 if n < 4 else 0.5) for n in range(12)]
    new = [judgment("new", n, gold=0.0) for n in range(3)]
    found = cards([*weak, *new, judgment("plain", 0)])
    assert found["weak"].gold.value == pytest.approx(4 / 12)
    # Beta(5, 9): quantiles from tables of the regularised incomplete beta function.
    assert (found["weak"].gold.low, found["weak"].gold.high) == pytest.approx((0.1386, 0.6143), abs=2e-4)
    assert found["weak"].gold_alarm
    assert not found["new"].gold_alarm  # three questions are no ground for anything
    assert found["plain"].gold.reason == "no gold questions"


def test_a_share_of_one_is_not_certainty():
    card = cards([judgment(who, n) for n in range(10) for who in "uv"])["u"]
    assert card.majority.value == 1
    assert card.majority.low is not None
    assert card.majority.low < 0.8


def test_drift_finds_a_change_and_stays_calm_without_one():
    generator = np.random.default_rng(0)

    def series(late: float) -> list[Judgment]:
        made = []
        for n in range(400):
            right = late if n >= 200 else 0.9
            for who in "uvw":
                ranks = (1, 2) if generator.random() < right else (2, 1)
                made.append(
                    judgment(
                        who, n, ranks, at=n * 60_000, seconds=float(generator.uniform(5, 20)), guideline=1 + n // 200
                    )
                )
        return made

    changed = drift(judged := first_judgments(series(0.6)), outcomes(judged))
    assert len(changed.periods) == PERIODS
    assert sum(period.judgments for period in changed.periods) == 1200
    assert [version.name for version in changed.versions] == ["version 1", "version 2"]
    by_figure = {change.figure: change for change in changed.changes}
    assert (by_figure["majority"].p or 1) < 0.01
    assert (by_figure["majority"].difference.high or 0) < -0.1
    steady = drift(judged := first_judgments(series(0.9)), outcomes(judged))
    assert all(change.p is None or change.p > 0.05 for change in steady.changes)


def test_drift_without_times_says_so():
    judged = [judgment("u", n) for n in range(20)]
    found = drift(judged, outcomes(judged))
    assert found.periods == ()
    assert found.reason == "0 judgments have a time; 16 are needed"


def recorded(data_folder: Path, criterion: str) -> list[Judgment]:
    """The recorded ratings with their times; two rows of one labeler with the same times were one page."""
    with gzip.open(data_folder / "e2e" / "rankings.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["criterion"] == criterion]
    pages = Counter((row["labeler"], row["started"], row["submitted"]) for row in rows)
    made = []
    for row in rows:
        scores = [response["score"] for response in row["responses"]]
        ranks = tuple(1 + sum(other > score for other in scores) for score in scores)
        texts = tuple(response["text"] for response in row["responses"])
        one = from_rankings([Ranking(user_prompt(row["prompt"]), texts, ranks, labeler=row["labeler"])])[0]
        start, end = (datetime.strptime(row[key], "%m/%d/%Y %H:%M:%S") for key in ("started", "submitted"))
        page = pages[row["labeler"], row["started"], row["submitted"]]
        made.append(replace(one, seconds=(end - start).total_seconds() / page, at=int(end.timestamp() * 1000)))
    return made


def test_real_people_who_call_everything_equal_are_found(data_folder):
    found = cards(recorded(data_folder, "quality"))
    equal = {name for name, card in found.items() if card.all_equal.low is not None and card.all_equal.low > 0.5}
    assert {"w015", "w025", "w038", "w104"} <= equal
    assert "w000" not in equal
    assert 3 <= len(equal) <= 20


def test_real_people_who_rush_are_found(data_folder):
    judged = recorded(data_folder, "naturalness")
    found = cards(judged)
    rushing = {name for name, card in found.items() if card.too_fast.low is not None and card.too_fast.low > 0.3}
    assert "w062" in rushing
    assert len(rushing) <= 5
    # w062 was too fast in more than half of 66 judgments, and agrees with the others as a coin would.
    assert found["w062"].majority.low is not None
    assert found["w062"].majority.low < 0.5
    firsts = first_judgments(judged)
    seen = drift(firsts, outcomes(firsts))
    assert len(seen.periods) == PERIODS
