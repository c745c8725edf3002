"""Exports of two labeling tools, Argilla and Label Studio, as rankings and comparisons.

An export says what was chosen among named fields, not which field is the prompt: that one is known by its name
(`PROMPT_NAMES`). Answers that were skipped, discarded or left as drafts are no judgments; they are counted, not read.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from plaudit.core.records import Comparison, Prompt, Ranking, Source, user_prompt
from plaudit.datasets.fields import conversation, label_name, messages, number, ranks_from_scores, text
from plaudit.datasets.problems import RowProblem, quoted, shown_value
from plaudit.datasets.transcripts import is_transcript, transcript_prompt

PROMPT_NAMES = ("prompt", "instruction", "question", "query", "input", "context", "conversation", "chat")
Row = Mapping[str, Any]


def is_label_studio(row: Row) -> bool:
    """A task of a Label Studio JSON export."""
    return isinstance(row.get("data"), dict) and isinstance(row.get("annotations"), list)


def is_argilla(row: Row) -> bool:
    """A record of an Argilla export, nested or flat."""
    nested = isinstance(row.get("fields"), dict) and isinstance(row.get("responses"), dict | list)
    return nested or any(name.endswith(".responses") for name in row)


def export_kind(row: Row) -> Literal["ranking", "comparison"] | None:
    """ "ranking" or "comparison"; None for a row of another origin, or one without any judgment."""
    if is_argilla(row):
        return "ranking"
    if not is_label_studio(row):
        return None
    types = {result.get("type") for _, result in _results(row, Counter())}
    return "comparison" if "pairwise" in types else "ranking" if "ranker" in types else None


# Label Studio


def label_studio_comparisons(row: Row, source: Source, skipped: Counter[str]) -> Iterator[Comparison]:
    """One comparison for each annotation made with the Pairwise tag."""
    for labeler, result in _results(row, skipped):
        if result.get("type") != "pairwise":
            continue
        prompt, prompt_name = _prompt(row["data"])
        left, right = _sides(row["data"], prompt_name, str(result.get("to_name", "")))
        selected = (result.get("value") or {}).get("selected")
        if selected not in ("left", "right"):
            raise RowProblem(f"`value.selected` is {shown_value(selected)}; expected left or right")
        chosen, rejected = (left, right) if selected == "left" else (right, left)
        yield Comparison(prompt, chosen, rejected, labeler=labeler, source=source)


def label_studio_rankings(row: Row, source: Source, skipped: Counter[str]) -> Iterator[Ranking]:
    """One ranking for each annotation made with the Ranker tag on a List."""
    for labeler, result in _results(row, skipped):
        if result.get("type") != "ranker":
            continue
        ranker = (result.get("value") or {}).get("ranker")
        orders = {name: ids for name, ids in ranker.items() if name != "_"} if isinstance(ranker, dict) else {}
        if len(orders) != 1:
            raise RowProblem(
                f"`value.ranker` has the groups {quoted(orders)}; use one ordered list (Ranker without Bucket)"
            )
        ids = next(iter(orders.values()))
        items = _list_items(row["data"])
        unknown = [item for item in ids if str(item) not in items]
        if unknown:
            raise RowProblem(f"`value.ranker` names {shown_value(unknown[0])}, which is no item of the list in `data`")
        if len(ids) < 2:
            raise RowProblem(f"`value.ranker` orders {len(ids)} answer(s); a ranking needs two or more")
        prompt, _ = _prompt(row["data"])
        texts = tuple(items[str(item)] for item in ids)
        yield Ranking(prompt, texts, tuple(range(1, len(ids) + 1)), labeler=labeler, source=source)


def _results(row: Row, skipped: Counter[str]) -> Iterator[tuple[str | None, Row]]:
    """(labeler, result) of every finished annotation."""
    if not row["annotations"]:
        skipped["task without annotations"] += 1
    for annotation in row["annotations"]:
        if annotation.get("was_cancelled"):
            skipped["annotation cancelled"] += 1
            continue
        if not annotation.get("result"):
            skipped["annotation without a result"] += 1
            continue
        who = annotation.get("completed_by")
        who = who.get("email") or who.get("id") if isinstance(who, dict) else who
        for result in annotation["result"]:
            yield label_name(who, "completed_by"), result


def _sides(data: Row, prompt_name: str, to_name: str) -> tuple[str, str]:
    """The left and the right text: named by `to_name` if the tags are called like the fields, else in order."""
    candidates = [name for name, value in data.items() if name != prompt_name and isinstance(value, str)]
    named = [field for tag in to_name.split(",") if (field := _same_name(tag, candidates))]
    sides = named if len(named) == 2 else candidates
    if len(sides) != 2:
        raise RowProblem(f"`data` has the texts {quoted(candidates)} beside the prompt; exactly two can be compared")
    return text(data[sides[0]], f"data.{sides[0]}"), text(data[sides[1]], f"data.{sides[1]}")


def _list_items(data: Row) -> dict[str, str]:
    """Text of each item of the task's List, by id."""
    for name, value in data.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) and "id" in item for item in value):
            return {str(item["id"]): text(item.get("body", item.get("text")), f"data.{name}.body") for item in value}
    raise RowProblem(f"`data` has {quoted(data)} but no list of items with `id` and `body`")


# Argilla


class _Answer(NamedTuple):
    """What one person answered to one question of one record."""

    question: str
    user: str | None
    value: Any


def argilla_rankings(row: Row, source: Source, skipped: Counter[str]) -> Iterator[Ranking]:
    """One ranking for each person and ranking question, or each person and set of ratings of single fields."""
    fields: Row = row["fields"] if isinstance(row.get("fields"), dict) else row
    prompt, prompt_name = _prompt(fields)
    candidates = [name for name, value in fields.items() if name != prompt_name and isinstance(value, str)]
    ratings: dict[tuple[str | None, str], dict[str, float]] = {}
    found = False
    for answer in _answers(row, skipped):
        if _is_order(answer.value):
            found = True
            names = [_same_name(str(item["value"]), candidates) for item in answer.value]
            if None in names:
                unknown = answer.value[names.index(None)]["value"]
                raise RowProblem(
                    f"`{answer.question}` ranks {shown_value(unknown)}; the fields are {quoted(candidates)}"
                )
            scores = {
                name: -number(item["rank"], "rank", low=1) for name, item in zip(names, answer.value, strict=True)
            }
            yield _ranking(fields, prompt, scores, answer.user, answer.question, source)
        elif (rated := _rated_field(answer.question, candidates)) and not isinstance(answer.value, list | str | dict):
            found = True
            score = number(answer.value, answer.question)
            ratings.setdefault((answer.user, _criterion(answer.question, rated)), {})[rated] = score
    for (user, criterion), scores in ratings.items():
        if len(scores) < 2:
            skipped["rating of a single answer"] += 1
            continue
        yield _ranking(fields, prompt, scores, user, criterion, source)
    if not found:
        skipped["record without a ranking or ratings"] += 1


def _ranking(
    fields: Row, prompt: Prompt, scores: Mapping[Any, float], user: str | None, criterion: str, source: Source
) -> Ranking:
    if len(scores) < 2:
        raise RowProblem(f"`{criterion}` ranks {len(scores)} answer(s); a ranking needs two or more")
    texts = tuple(text(fields[name], name) for name in scores)
    ranks = ranks_from_scores(list(scores.values()))
    return Ranking(prompt, texts, ranks, labeler=user, criterion=criterion, source=source)


def _answers(row: Row, skipped: Counter[str]) -> Iterator[_Answer]:
    """The submitted answers of a record, in whichever of Argilla's three shapes."""
    for question, user, value, status in _all_answers(row):
        if status not in (None, "submitted"):
            skipped[f"answer {status}"] += 1
        elif value is not None:
            yield _Answer(question, label_name(user, "user_id"), value)


def _all_answers(row: Row) -> Iterator[tuple[str, Any, Any, Any]]:
    responses = row.get("responses")
    if isinstance(responses, dict):  # {"question": [{"value": …, "user_id": …}]}
        for question, given in responses.items():
            for one in given or []:
                yield question, one.get("user_id"), one.get("value"), one.get("status")
    elif isinstance(responses, list):  # [{"user_id": …, "status": …, "values": {"question": {"value": …}}}]
        for one in responses:
            for question, value in (one.get("values") or {}).items():
                yield question, one.get("user_id"), value.get("value"), one.get("status")
    else:  # flat columns
        for name, values in row.items():
            if not name.endswith(".responses") or not values:
                continue
            users = row.get(f"{name}.users") or [None] * len(values)
            statuses = row.get(f"{name}.status") or [None] * len(values)
            for user, value, status in zip(users, values, statuses, strict=True):
                yield name.removesuffix(".responses"), user, value, status


def _is_order(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and "value" in item and item.get("rank") is not None for item in value)
    )


def _rated_field(question: str, candidates: list[str]) -> str | None:
    """The field whose name is part of the question's: `rating_response_1` rates `response_1`."""
    inside = [name for name in candidates if _plain(name) in _plain(question)]
    return max(inside, key=len, default=None)


def _criterion(question: str, field: str) -> str:
    """What is left of a question's name without the field's: `helpfulness_response_1` is about helpfulness."""
    return _plain(question).replace(_plain(field), "") or "rating"


# Both


def _prompt(fields: Row) -> tuple[Prompt, str]:
    for name in PROMPT_NAMES:
        match = _same_name(name, list(fields))
        if match is None or fields[match] is None:
            continue
        value = fields[match]
        if isinstance(value, list):
            return conversation(messages(value, match), match), match
        if is_transcript(value):
            return transcript_prompt(value, match), match
        return user_prompt(text(value, match)), match
    raise RowProblem(
        f"none of the fields {quoted(fields)} is called like a prompt; rename one to `prompt` "
        f"(also understood: {', '.join(PROMPT_NAMES[1:])})"
    )


def _same_name(name: str, candidates: list[str]) -> str | None:
    return next((candidate for candidate in candidates if _plain(candidate) == _plain(name)), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
