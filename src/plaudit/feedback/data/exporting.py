"""Judgments as the files of other tools: what `datasets` reads from them is what went in, as far as each can hold it.

What a format cannot say (a tie in a list of preferences, a system message in a transcript) is left out and counted.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple

from plaudit.core.records import Prompt
from plaudit.feedback.quality.records import Judgment

ExportFormat = Literal["plaudit", "trl", "hh", "argilla", "label-studio"]
Row = dict[str, Any]

_SPEAKERS = {"user": "Human", "assistant": "Assistant"}
_TURN = re.compile(r"\n\n(Human|Assistant):")


class Exported(NamedTuple):
    """The rows of a file, and what it could not hold, by cause."""

    rows: list[Row]
    left_out: Mapping[str, int]


def export(judgments: Sequence[Judgment], to: ExportFormat) -> Exported:
    """The judgments as rows of a JSON-lines file.

    plaudit:      one a judgment, with labeler, order shown, times, confidence and guidelines' version.
    trl:          prompt, chosen and rejected as chat messages: one for each pair that a labeler put in an order.
    hh:           the same as transcripts.
    argilla:      one record for what was judged, with everybody's ranking.
    label-studio: one task for what was judged, with everybody's Ranker annotation, which knows no ties.
    """
    left_out: Counter[str] = Counter()
    return Exported(list(_FORMATS[to](judgments, left_out)), {cause: n for cause, n in left_out.items() if n})


def _plaudit(judgments: Sequence[Judgment], _left_out: Counter[str]) -> Iterator[Row]:
    for one in judgments:
        row: Row = {
            "prompt": _chat(one.prompt),
            "responses": list(one.responses),
            "ranks": list(one.ranks),
            "labeler": one.labeler,
            "criterion": one.criterion,
            "order": None if one.order is None else list(one.order),
            "seconds": one.seconds,
            "submitted": one.at,
            "confidence": one.confidence,
            "guideline": one.guideline,
        }
        yield {name: value for name, value in row.items() if value is not None}


def _trl(judgments: Sequence[Judgment], left_out: Counter[str]) -> Iterator[Row]:
    for one, better, worse in _strict_pairs(judgments, left_out):
        chosen, rejected = ([{"role": "assistant", "content": text}] for text in (better, worse))
        yield {"prompt": _chat(one.prompt), "chosen": chosen, "rejected": rejected}


def _hh(judgments: Sequence[Judgment], left_out: Counter[str]) -> Iterator[Row]:
    for one, better, worse in _strict_pairs(judgments, left_out):
        if any(message.role not in _SPEAKERS for message in one.prompt):
            left_out["system message"] += 1
        elif any(_TURN.search(f"\n\n{text}") for text in (*(m.content for m in one.prompt), better, worse)):
            left_out["text that looks like a turn of a transcript"] += 1
        elif any(text != text.strip() for text in (*(m.content for m in one.prompt), better, worse)):
            left_out["space around a text"] += 1
        else:
            said = "".join(f"\n\n{_SPEAKERS[message.role]}: {message.content}" for message in one.prompt)
            yield {"chosen": f"{said}\n\nAssistant: {better}", "rejected": f"{said}\n\nAssistant: {worse}"}


def _argilla(judgments: Sequence[Judgment], _left_out: Counter[str]) -> Iterator[Row]:
    for group in _by_item(judgments):
        names = [f"response_{place}" for place in range(1, len(group[0].responses) + 1)]
        answers: defaultdict[str, list[Row]] = defaultdict(list)
        for one in group:
            value = [{"value": name, "rank": rank} for name, rank in zip(names, one.ranks, strict=True)]
            answers[one.criterion or "ranking"].append({"value": value, "user_id": one.labeler, "status": "submitted"})
        fields = {"prompt": _chat(group[0].prompt), **dict(zip(names, group[0].responses, strict=True))}
        yield {"fields": fields, "responses": dict(answers)}


def _label_studio(judgments: Sequence[Judgment], left_out: Counter[str]) -> Iterator[Row]:
    for number, group in enumerate(_by_item(judgments), start=1):
        items = [{"id": str(place), "body": text} for place, text in enumerate(group[0].responses, start=1)]
        annotations: list[Row] = []
        for one in group:
            if len(set(one.ranks)) < len(one.ranks):
                left_out["ranking with ties"] += 1
                continue
            order = sorted(range(len(one.ranks)), key=lambda place: one.ranks[place])
            value = {"ranker": {"rank": [str(place + 1) for place in order]}}
            result = {"type": "ranker", "from_name": "rank", "to_name": "items", "value": value}
            annotations.append({"completed_by": {"id": one.labeler}, "was_cancelled": False, "result": [result]})
        if annotations:
            data = {"prompt": _chat(group[0].prompt), "items": items}
            yield {"id": number, "data": data, "annotations": annotations}


_FORMATS: dict[ExportFormat, Callable[[Sequence[Judgment], Counter[str]], Iterator[Row]]] = {
    "plaudit": _plaudit,
    "trl": _trl,
    "hh": _hh,
    "argilla": _argilla,
    "label-studio": _label_studio,
}


def _strict_pairs(judgments: Sequence[Judgment], left_out: Counter[str]) -> Iterator[tuple[Judgment, str, str]]:
    """(judgment, better text, worse text)."""
    for one in judgments:
        for a, b in combinations(range(len(one.responses)), 2):
            if one.ranks[a] == one.ranks[b]:
                left_out["tie"] += 1
            else:
                better, worse = (a, b) if one.ranks[a] < one.ranks[b] else (b, a)
                yield one, one.responses[better], one.responses[worse]


def _by_item(judgments: Sequence[Judgment]) -> Iterator[list[Judgment]]:
    groups: defaultdict[str, list[Judgment]] = defaultdict(list)
    for one in judgments:
        groups[one.item].append(one)
    yield from groups.values()


def _chat(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in prompt]
