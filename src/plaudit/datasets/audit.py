"""What people's judgments say about themselves: pairs judged both ways, labelers in contradiction.

None of these is an error: two people may differ, and one may change his mind. They are counted, so that nobody is
surprised by how far a reward model can get.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from plaudit.core.records import Comparison, Ranking, prompt_key


class Verdict(NamedTuple):
    """A strict preference of one labeler: `better` over `worse`."""

    prompt: str  # key
    criterion: str | None
    labeler: str | None
    better: str
    worse: str


def verdicts(row: Ranking | Comparison) -> Iterator[Verdict]:
    """The strict preferences in a judgment. Ties and pairs of the same text say nothing."""
    key = prompt_key(row.prompt)
    if isinstance(row, Comparison):
        if row.label != 0.5 and row.chosen != row.rejected:
            sides = (row.chosen, row.rejected) if row.label > 0.5 else (row.rejected, row.chosen)
            yield Verdict(key, None, row.labeler, *sides)
        return
    for (text_a, rank_a), (text_b, rank_b) in combinations(zip(row.responses, row.ranks, strict=True), 2):
        if rank_a != rank_b and text_a != text_b:
            sides = (text_a, text_b) if rank_a < rank_b else (text_b, text_a)
            yield Verdict(key, row.criterion, row.labeler, *sides)


def all_tied(row: Ranking | Comparison) -> bool:
    """Whether a judgment prefers nothing."""
    return row.label == 0.5 if isinstance(row, Comparison) else len(set(row.ranks)) == 1


def count_judgments(rows: Sequence[Ranking | Comparison]) -> dict[str, int]:
    """Counts over all judgments.

    all_tied: rows that prefer nothing.   same_text_apart: rows that prefer one of two identical texts.
    judged_pairs: distinct pairs of texts with a strict preference.
    opposite_pairs: those of them judged in both directions, by anybody.
    self_contradictions: those that one and the same labeler judged in both directions.
    """
    directions: defaultdict[tuple[str, str | None, frozenset[str]], set[str]] = defaultdict(set)
    personal: defaultdict[tuple[str, str | None, frozenset[str], str], set[str]] = defaultdict(set)
    for row in rows:
        for verdict in verdicts(row):
            pair = (verdict.prompt, verdict.criterion, frozenset((verdict.better, verdict.worse)))
            directions[pair].add(verdict.better)
            if verdict.labeler is not None:
                personal[(*pair, verdict.labeler)].add(verdict.better)
    return {
        "all_tied": sum(all_tied(row) for row in rows),
        "same_text_apart": sum(_same_text_apart(row) for row in rows),
        "labelers": len({row.labeler for row in rows if row.labeler is not None}),
        "judged_pairs": len(directions),
        "opposite_pairs": sum(len(found) == 2 for found in directions.values()),
        "self_contradictions": sum(len(found) == 2 for found in personal.values()),
    }


def _same_text_apart(row: Ranking | Comparison) -> bool:
    if isinstance(row, Comparison):
        return row.chosen == row.rejected and row.label != 0.5
    return len(set(row.responses)) < len(set(zip(row.responses, row.ranks, strict=True)))
