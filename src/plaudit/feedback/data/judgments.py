"""Judgments of a project as records for statistics."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, select, tuple_

from plaudit.core.records import Prompt
from plaudit.feedback.content.content import read_prompt
from plaudit.feedback.people.members import Kind
from plaudit.feedback.quality.records import Judgment, canonical_order, item_key
from plaudit.feedback.store.tables import (
    assignment,
    batch,
    gold_result,
    guideline,
    member,
    prompt,
    ranking_entry,
    response,
    submission,
    task,
    task_response,
)
from plaudit.feedback.tasks.batches import Purpose
from plaudit.feedback.tasks.effective import is_effective

_ROWS = 5_000


class _Item(NamedTuple):
    """What a task shows, in canonical order."""

    key: str
    prompt: Prompt
    ids: tuple[str, ...]
    texts: tuple[str, ...]


def load_judgments(
    c: Connection,
    *,
    batches: Sequence[str] | None = None,
    kinds: Sequence[Kind] = ("person",),
    purposes: Sequence[Purpose] = ("work",),
    newest: int | None = None,
) -> list[Judgment]:
    """Every ranking that counts, oldest first; gold questions carry their score.

    A labeler who found nothing acceptable and ranked nothing has given no order: that submission is left out here.

    batches:  ids; all if None. kinds: of labelers. purposes: of batches.
    newest:   at most so many submissions, the newest ones; all if None.
    """
    chosen = [
        batch.c.kind == "ranking",
        batch.c.purpose.in_(purposes),
        member.c.kind.in_(kinds),
        assignment.c.state == "submitted",
        is_effective(submission),
    ]
    if batches is not None:
        chosen.append(batch.c.id.in_(batches))
    if newest is not None:
        chosen += _among_newest(c, chosen, newest)
    items = _items(c, chosen)
    entries = groupby(_stream(c, _entries(chosen)), key=lambda row: row.id)
    found: list[Judgment] = []
    for row, (submission_id, group) in zip(_stream(c, _submissions(chosen)), entries, strict=True):
        assert row.id == submission_id, "both queries list the same submissions in the same order"
        tiers = {entry.response_id: entry.tier for entry in group if entry.response_id is not None}
        if tiers:
            found.append(_judgment(row, items[row.task_id], tiers))
    return sorted(found, key=lambda one: (one.at or 0, one.labeler, one.item))


def _judgment(row: Any, item: _Item, tiers: dict[str, int]) -> Judgment:
    place = {response_id: number for number, response_id in enumerate(row.shown)}
    return Judgment(
        item=item.key,
        prompt=item.prompt,
        responses=item.texts,
        ranks=tuple(tiers[response_id] for response_id in item.ids),
        labeler=row.pseudonym,
        kind=row.kind,
        order=tuple(place[response_id] for response_id in item.ids) if place else None,
        seconds=None if row.active_ms is None else row.active_ms / 1000,
        at=row.created_at,
        criterion=row.selection.get("criterion"),
        guideline=row.version,
        gold=row.score,
        confidence=row.confidence,
    )


def _submissions(chosen: list[ColumnElement[bool]]) -> Select[Any]:
    about = (
        submission.c.id,
        submission.c.created_at,
        submission.c.active_ms,
        submission.c.confidence,
        assignment.c.task_id,
        assignment.c.shown,
        member.c.pseudonym,
        member.c.kind,
        task.c.selection,
        guideline.c.version,
        gold_result.c.score,
    )
    return (
        _chosen(chosen, *about)
        .join(guideline, guideline.c.id == submission.c.guideline_id)
        .outerjoin(gold_result, gold_result.c.submission_id == submission.c.id)
        .order_by(submission.c.id)
    )


def _entries(chosen: list[ColumnElement[bool]]) -> Select[Any]:
    return (
        _chosen(chosen, submission.c.id, ranking_entry.c.response_id, ranking_entry.c.tier)
        .outerjoin(ranking_entry, ranking_entry.c.submission_id == submission.c.id)
        .order_by(submission.c.id)
    )


def _among_newest(c: Connection, chosen: list[ColumnElement[bool]], newest: int) -> list[ColumnElement[bool]]:
    """The condition that a submission is one of the `newest`; none if there are no more than that."""
    # With the id, because all judgments of an import may have the same time.
    age = submission.c.created_at, submission.c.id
    query = _chosen(chosen, *age).order_by(*(column.desc() for column in age))
    oldest = c.execute(query.offset(newest - 1).limit(1)).first()
    return [] if oldest is None else [tuple_(*age) >= tuple_(*oldest)]


def _chosen(chosen: list[ColumnElement[bool]], *columns: ColumnElement[Any]) -> Select[Any]:
    return (
        select(*columns)
        .select_from(submission)
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .join(member, member.c.id == assignment.c.member_id)
        .join(task, task.c.id == assignment.c.task_id)
        .join(batch, batch.c.id == task.c.batch_id)
        .where(*chosen)
    )


def _items(c: Connection, chosen: list[ColumnElement[bool]]) -> dict[str, _Item]:
    """Every task of the chosen submissions with its texts. A text that many tasks show is one object in memory."""
    judged = _chosen(chosen, task.c.id)
    query = (
        select(task_response.c.task_id, task.c.prompt_id, response.c.id, response.c.body)
        .join(task, task.c.id == task_response.c.task_id)
        .join(response, response.c.id == task_response.c.response_id)
        .where(task.c.id.in_(judged))
        .order_by(task_response.c.task_id)
    )
    prompts = select(prompt.c.id, prompt.c.messages).where(
        prompt.c.id.in_(select(task.c.prompt_id).where(task.c.id.in_(judged)))
    )
    conversations = {row.id: read_prompt(row) for row in _stream(c, prompts)}
    bodies: dict[str, str] = {}
    items: dict[str, _Item] = {}
    for task_id, group in groupby(_stream(c, query), key=lambda row: row.task_id):
        rows = list(group)
        texts = [bodies.setdefault(row.id, row.body) for row in rows]
        order = canonical_order(texts)
        conversation = conversations[rows[0].prompt_id]
        items[task_id] = _Item(
            item_key(conversation, texts),
            conversation,
            tuple(rows[index].id for index in order),
            tuple(texts[index] for index in order),
        )
    return items


def _stream(c: Connection, query: Select[*tuple[Any, ...]]) -> Any:
    return c.execute(query.execution_options(yield_per=_ROWS))
