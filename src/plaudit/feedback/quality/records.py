"""One judgment as statistics see it: who ranked what, how, when, and what was on the screen.

Records come from a project's database (`feedback.data.judgments`) or from a file of rankings. They are plain data:
every figure of `quality` and `bias` is a function of a list of them.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plaudit.core.errors import DataError
from plaudit.core.records import Prompt, Ranking, prompt_key


@dataclass(frozen=True, slots=True)
class Judgment:
    """One labeler's ranking of one item, once.

    item:      `item_key` of what was judged. Two judgments of one item have the same prompt and the same responses.
    responses: in canonical order (`canonical_order`), so that place i means the same response in every judgment.
    ranks:     of the responses; 1 is best, equal numbers are ties.
    kind:      "person", "ai" or "simulated".
    order:     place on the screen of each response, 0 first; None where nobody recorded it.
    seconds:   active time spent; None unknown.
    at:        milliseconds UTC; None unknown.
    guideline: version of the guidelines the labeler had read.
    gold:      score against the expected answer, 0 to 1; None for an ordinary task.
    """

    item: str
    prompt: Prompt
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    labeler: str
    kind: str = "person"
    order: tuple[int, ...] | None = None
    seconds: float | None = None
    at: int | None = None
    criterion: str | None = None
    guideline: int | None = None
    gold: float | None = None
    confidence: int | None = None

    def __post_init__(self) -> None:
        if len(self.responses) < 2 or len(self.ranks) != len(self.responses):
            raise DataError(
                f"Judgment of item {self.item}: {len(self.responses)} responses and {len(self.ranks)} ranks; "
                "give two or more responses and one rank each."
            )
        if self.order is not None and sorted(self.order) != list(range(len(self.responses))):
            raise DataError(
                f"Judgment of item {self.item}: order {self.order} is no permutation of the {len(self.responses)} "
                "places; give each response its place, counted from 0."
            )


def canonical_order(responses: Sequence[str]) -> list[int]:
    """Indices that sort the texts: the order of a `Judgment`, whatever the order in the file or on the screen."""
    return sorted(range(len(responses)), key=lambda index: responses[index])


def item_key(prompt: Prompt, responses: Sequence[str]) -> str:
    """A stable key of the prompt and the set of its responses: the same for a repeated task, in any order."""
    text = json.dumps([prompt_key(prompt), *sorted(responses)])
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()


def from_rankings(rows: Iterable[Ranking], *, listed_as_shown: bool = False, kind: str = "person") -> list[Judgment]:
    """Judgments out of a file's rankings.

    listed_as_shown: whether each row lists its responses in the order in which its labeler saw them.

    Raises:
        DataError: a row without labeler; agreement needs to know who judged.
    """
    return [_from_ranking(row, listed_as_shown=listed_as_shown, kind=kind) for row in rows]


def _from_ranking(row: Ranking, *, listed_as_shown: bool, kind: str) -> Judgment:
    if row.labeler is None:
        raise DataError(f"{row.source}: the ranking has no labeler; add a column `labeler` with a name or pseudonym.")
    order = canonical_order(row.responses)
    return Judgment(
        item=item_key(row.prompt, row.responses),
        prompt=row.prompt,
        responses=tuple(row.responses[index] for index in order),
        ranks=tuple(row.ranks[index] for index in order),
        labeler=row.labeler,
        kind=kind,
        order=tuple(order) if listed_as_shown else None,
        criterion=row.criterion,
    )
