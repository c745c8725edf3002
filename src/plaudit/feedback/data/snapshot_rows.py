"""From judgments to the lines of a data set: each for itself, by majority, or weighed by reliability.

Everything is in an order that follows from the contents alone, never from keys or from the order in which a database
returns rows: the same judgments give the same bytes wherever they are kept.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from plaudit.core.errors import DataError
from plaudit.core.records import Prompt, prompt_key
from plaudit.feedback.data.recipe import Recipe
from plaudit.feedback.quality.outcomes import outcomes
from plaudit.feedback.quality.records import Judgment, item_key
from plaudit.feedback.quality.reliability import reliability, soft_labels

_DIGITS = 6  # of labels and weights: what remains the same when a library sums in another order


@dataclass(frozen=True, slots=True)
class Picked:
    """A judgment or demonstration that the recipe takes.

    responses: the texts, sorted; `ranks` in the same order. Both empty for a demonstration.
    text:      of a demonstration.
    """

    submission_id: str
    prompt: Prompt
    labeler: str
    kind: str
    criterion: str | None
    responses: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    text: str | None = None

    @property
    def item(self) -> str:
        """What was judged."""
        return item_key(self.prompt, self.responses)

    @property
    def place(self) -> tuple[str, ...]:
        """Where its rows stand in the file."""
        return (
            prompt_key(self.prompt),
            self.item,
            self.criterion or "",
            self.labeler,
            str(self.ranks),
            self.text or "",
        )


class Line(NamedTuple):
    """A row of the file and the submissions it comes from."""

    row: dict[str, Any]
    submissions: tuple[str, ...]


def lines(picked: Iterable[Picked], recipe: Recipe) -> Iterator[Line]:
    """The rows of the data set, in their order.

    Raises:
        DataError: reliability is asked for, and there is nothing to estimate it from.
    """
    ordered = sorted(picked, key=lambda one: one.place)
    if recipe.kind == "demonstrations":
        for one in ordered:
            row = {"prompt": _chat(one.prompt), "response": one.text, "labeler": one.labeler}
            yield Line(row, (one.submission_id,))
    elif recipe.kind == "rankings":
        yield from _rankings(ordered, recipe)
    else:
        yield from _comparisons(ordered, recipe)


# Rankings


def _rankings(ordered: Sequence[Picked], recipe: Recipe) -> Iterator[Line]:
    if recipe.aggregate == "majority":
        for group in _items(ordered):
            ranks = consensus([one.ranks for one in group])
            if recipe.ties == "keep" or len(set(ranks)) > 1:
                yield Line(_ranking(group[0], ranks), _sources(group))
        return
    weights = labeler_weights(ordered) if recipe.aggregate == "soft" else {}
    for one in ordered:
        weight = weights.get((one.criterion, one.labeler), 1.0)
        if weight > 0 and (recipe.ties == "keep" or len(set(one.ranks)) > 1):
            row = _ranking(one, one.ranks) | {"labeler": one.labeler}
            yield Line(row | ({"weight": weight} if recipe.aggregate == "soft" else {}), (one.submission_id,))


def consensus(rankings: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Ranks by majority: the more responses a response beats and the fewer it loses to, the better (Copeland 1951).

    A response beats another where more labelers put it above than below; equal scores are ties.
    """
    size = len(rankings[0])
    score = [0] * size
    for a, b in combinations(range(size), 2):
        lead = sum((ranks[b] > ranks[a]) - (ranks[b] < ranks[a]) for ranks in rankings)
        score[a] += (lead > 0) - (lead < 0)
        score[b] -= (lead > 0) - (lead < 0)
    order = sorted(set(score), reverse=True)
    return tuple(order.index(value) + 1 for value in score)


def _ranking(one: Picked, ranks: Sequence[int]) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": _chat(one.prompt), "responses": list(one.responses), "ranks": list(ranks)}
    return row | ({"criterion": one.criterion} if one.criterion else {})


# Comparisons


def _comparisons(ordered: Sequence[Picked], recipe: Recipe) -> Iterator[Line]:
    if recipe.aggregate == "each":
        for one in ordered:
            for a, b in _pairs(one):
                label = 0.5 + (one.ranks[b] > one.ranks[a]) / 2 - (one.ranks[b] < one.ranks[a]) / 2
                if label != 0.5 or recipe.ties == "keep":
                    row = _comparison(one, one.responses[a], one.responses[b], label) | {"labeler": one.labeler}
                    yield Line(row, (one.submission_id,))
    elif recipe.aggregate == "majority":
        for group in _items(ordered):
            for a, b in _pairs(group[0]):
                lead = sum((one.ranks[b] > one.ranks[a]) - (one.ranks[b] < one.ranks[a]) for one in group)
                label = 0.5 + ((lead > 0) - (lead < 0)) / 2
                if label != 0.5 or recipe.ties == "keep":
                    yield Line(
                        _comparison(group[0], group[0].responses[a], group[0].responses[b], label), _sources(group)
                    )
    else:
        yield from _soft(ordered, recipe)


def _soft(ordered: Sequence[Picked], recipe: Recipe) -> Iterator[Line]:
    groups = {(group[0].item, group[0].criterion): group for group in _items(ordered)}
    judged = [_judgment(one) for one in ordered]
    for found in soft_labels(judged, outcomes(judged)):
        group = groups[found.item, found.criterion]
        tied = found.tie >= max(found.first_better, found.second_better)
        if recipe.ties == "keep" or not tied:
            yield Line(_comparison(group[0], found.first, found.second, found.label), _sources(group))


def _comparison(one: Picked, first: str, second: str, label: float) -> dict[str, Any]:
    """The better text as `chosen`; the label says how sure that is, and is left out where it is certain."""
    chosen, rejected = (first, second) if label >= 0.5 else (second, first)
    sure = round(max(label, 1.0 - label), _DIGITS)
    row: dict[str, Any] = {"prompt": _chat(one.prompt), "chosen": chosen, "rejected": rejected}
    row |= {"label": sure} if sure < 1.0 else {}
    return row | ({"criterion": one.criterion} if one.criterion else {})


# Shared


def labeler_weights(ordered: Sequence[Picked]) -> dict[tuple[str | None, str], float]:
    """Weight of each labeler's judgments under each criterion, mean 1 over judged pairs (`quality.reliability`).

    Raises:
        DataError: no pair was judged by two labelers, so that nobody's reliability can be known.
    """
    found: dict[tuple[str | None, str], float] = {}
    for criterion in sorted({one.criterion for one in ordered}, key=str):
        judged = [_judgment(one) for one in ordered if one.criterion == criterion]
        table = outcomes(judged)
        if not (table.unit_counts().sum(axis=1) > 1).any():
            raise DataError(
                "aggregate=soft weighs labelers by their reliability, but no pair was judged by two of them. Collect "
                "overlapping judgments (overlap=2 or more), or use aggregate=each."
            )
        for labeler in reliability(judged, table).labelers:
            found[criterion, labeler.labeler] = round(labeler.weight, _DIGITS)
    return found


def _judgment(one: Picked) -> Judgment:
    return Judgment(one.item, one.prompt, one.responses, one.ranks, one.labeler, one.kind, criterion=one.criterion)


def _items(ordered: Sequence[Picked]) -> list[list[Picked]]:
    """Judgments of the same responses by the same criterion, in order."""
    groups: defaultdict[tuple[str, str | None], list[Picked]] = defaultdict(list)
    for one in ordered:
        groups[one.item, one.criterion].append(one)
    return list(groups.values())


def _pairs(one: Picked) -> Iterator[tuple[int, int]]:
    """Places of pairs of different texts."""
    return ((a, b) for a, b in combinations(range(len(one.responses)), 2) if one.responses[a] != one.responses[b])


def _sources(group: Sequence[Picked]) -> tuple[str, ...]:
    return tuple(one.submission_id for one in group)


def _chat(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in prompt]
