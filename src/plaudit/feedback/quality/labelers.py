"""A card for each labeler: agreement with the others, gold questions, ties, speed and self-consistency.

Every figure has n and an interval. The card is for a talk and not for a verdict: who disagrees with the majority may be
the one who reads.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from plaudit.evaluation.statistics import clustered_proportion
from plaudit.feedback.quality.agreement import agrees_with_others
from plaudit.feedback.quality.intervals import Estimate, Floats, undefined
from plaudit.feedback.quality.numerics import beta_below, beta_quantiles
from plaudit.feedback.quality.outcomes import Ints, Outcomes
from plaudit.feedback.quality.records import Judgment

GOLD_PASS = 0.8
"""A gold question is passed from this score on."""
GOLD_ALARM = 0.7
"""The card warns when the accuracy is below this with probability 0.95, from `GOLD_LEAST` questions on."""
GOLD_LEAST = 8
WORDS_A_SECOND = 10.0
"""Faster is not reading: two and a half times the average speed, 238 words a minute (Brysbaert 2019)."""
LEAST = 8
"""Fewer judgments, questions or pairs make no figure of a single labeler."""


@dataclass(frozen=True, slots=True)
class LabelerCard:
    """What one labeler's judgments say. Estimates cluster by prompt.

    majority:        strict preferences that are those of the others' majority (which never includes the labeler).
    gold:            gold questions passed, with the Beta(1, 1) posterior's interval.
    gold_alarm:      whether the posterior puts accuracy below `GOLD_ALARM` with probability above 0.95.
    tie_rate:        judged pairs called equal.       all_equal: judgments that call everything equal.
    seconds:         median active seconds a judgment; None where nobody measured.
    too_fast:        judgments faster than anybody reads (`WORDS_A_SECOND`).
    consistency:     pairs of repeated items judged as the first time, a tie being an answer like the others.
    """

    labeler: str
    kind: str
    judgments: int
    pairs: int
    majority: Estimate
    gold: Estimate
    gold_alarm: bool
    tie_rate: Estimate
    all_equal: Estimate
    seconds: float | None
    too_fast: Estimate
    consistency: Estimate


def labeler_cards(judgments: Sequence[Judgment], table: Outcomes) -> list[LabelerCard]:
    """The cards, most judgments first.

    judgments: all of them; table: the pairs of each labeler's first of each item (`outcomes.first_judgments`).
    """
    agrees = agrees_with_others(table)
    repeats = _repeats(judgments)
    own: defaultdict[str, list[Judgment]] = defaultdict(list)
    for judgment in judgments:
        own[judgment.labeler].append(judgment)
    rows = rows_by_labeler(table)
    cards = [_card(name, mine, table, rows[name], agrees, repeats.get(name, [])) for name, mine in own.items()]
    return sorted(cards, key=lambda card: (-card.judgments, card.labeler))


def rows_by_labeler(table: Outcomes) -> dict[str, Ints]:
    """The rows of each labeler; none for one whose judgments hold no pair."""
    counts = np.bincount(table.labeler, minlength=len(table.labelers))
    parts = np.split(np.argsort(table.labeler, kind="stable"), np.cumsum(counts)[:-1])
    return dict(zip(table.labelers, parts, strict=True)) if table.labelers else {}


def _card(
    name: str,
    mine: Sequence[Judgment],
    table: Outcomes,
    rows: Ints,
    agrees: Ints,
    repeats: Sequence[tuple[Judgment, Judgment]],
) -> LabelerCard:
    decided = rows[agrees[rows] >= 0]
    gold = [judgment.gold for judgment in mine if judgment.gold is not None]
    timed = [judgment for judgment in mine if judgment.seconds is not None]
    same, repeated_prompts = _consistency(repeats)
    return LabelerCard(
        labeler=name,
        kind=mine[0].kind,
        judgments=len(mine),
        pairs=len(rows),
        majority=proportion(
            agrees[decided].astype(np.float64),
            table.prompt[decided],
            "strict pairs on which the others have a majority",
        ),
        gold=_gold(gold),
        gold_alarm=_gold_alarm(gold),
        tie_rate=proportion((table.outcome[rows] == 0).astype(np.float64), table.prompt[rows], "pairs"),
        all_equal=_share(mine, [len(set(judgment.ranks)) == 1 for judgment in mine], "judgments"),
        seconds=median(judgment.seconds or 0.0 for judgment in timed) if timed else None,
        too_fast=_share(timed, [is_too_fast(judgment) for judgment in timed], "judgments with a measured time"),
        consistency=proportion(same, repeated_prompts, "pairs of repeated items"),
    )


def is_too_fast(judgment: Judgment) -> bool:
    """Whether the time would not do to read the responses once."""
    words = sum(len(response.split()) for response in judgment.responses)
    return judgment.seconds is not None and judgment.seconds * WORDS_A_SECOND < words


def proportion(hits: Floats, clusters: Ints, what: str) -> Estimate:
    """A share of 0..1 values, with the interval of `clustered_proportion`: it holds at 0 and 1 too."""
    if len(hits) < LEAST:
        return undefined(f"{len(hits)} {what}; {LEAST} are needed", len(hits))
    found = clustered_proportion(hits, clusters)
    return Estimate(found.value, found.low, found.high, found.n, found.clusters)


def _share(judgments: Sequence[Judgment], hits: Sequence[bool], what: str) -> Estimate:
    numbers: dict[object, int] = {}
    prompts = np.array([numbers.setdefault(judgment.prompt, len(numbers)) for judgment in judgments], dtype=np.int64)
    return proportion(np.array(hits, dtype=np.float64), prompts, what)


def _gold(scores: Sequence[float]) -> Estimate:
    if not scores:
        return undefined("no gold questions")
    passed = sum(score >= GOLD_PASS for score in scores)
    low, high = beta_quantiles(1 + passed, 1 + len(scores) - passed, (0.025, 0.975))
    return Estimate(passed / len(scores), low, high, len(scores), len(scores))


def _gold_alarm(scores: Sequence[float]) -> bool:
    passed = sum(score >= GOLD_PASS for score in scores)
    return len(scores) >= GOLD_LEAST and beta_below(GOLD_ALARM, 1 + passed, 1 + len(scores) - passed) > 0.95


def _repeats(judgments: Sequence[Judgment]) -> dict[str, list[tuple[Judgment, Judgment]]]:
    """Of each labeler the first judgment of an item with each later one of the same."""
    first: dict[tuple[str, str, str | None], Judgment] = {}
    found: defaultdict[str, list[tuple[Judgment, Judgment]]] = defaultdict(list)
    for judgment in sorted(judgments, key=lambda judgment: judgment.at or 0):
        before = first.setdefault((judgment.labeler, judgment.item, judgment.criterion), judgment)
        if before is not judgment:
            found[judgment.labeler].append((before, judgment))
    return dict(found)


def _consistency(repeats: Sequence[tuple[Judgment, Judgment]]) -> tuple[Floats, Ints]:
    """Whether each pair of each repeated item got the same outcome, and the number of the item."""
    same: list[float] = []
    items: list[int] = []
    numbers: dict[str, int] = {}
    for before, again in repeats:
        number = numbers.setdefault(before.item, len(numbers))
        for i in range(len(before.ranks)):
            for j in range(i + 1, len(before.ranks)):
                if before.responses[i] != before.responses[j]:
                    same.append(float(_sign(before, i, j) == _sign(again, i, j)))
                    items.append(number)
    return np.array(same), np.array(items, dtype=np.int64)


def _sign(judgment: Judgment, i: int, j: int) -> int:
    return (judgment.ranks[j] > judgment.ranks[i]) - (judgment.ranks[j] < judgment.ranks[i])
