"""Where gold questions come from, and how they are answered: what the workshop shows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection, select

from plaudit.core.records import Prompt
from plaudit.feedback.content.content import prompt_start, read_prompt
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.gold import gold
from plaudit.feedback.store.tables import (
    assignment,
    batch,
    gold_key,
    gold_result,
    member,
    prompt,
    ranking_entry,
    submission,
    task,
)
from plaudit.feedback.tasks import tasks
from plaudit.feedback.tasks.batches import get_batch
from plaudit.feedback.tasks.effective import is_effective
from plaudit.feedback.tasks.expected import Expected
from plaudit.feedback.tasks.guidelines import Flag, read
from plaudit.feedback.tasks.tasks import NewGold, NewTask, Shown


class Candidate(NamedTuple):
    """An ordinary task on which people agree, so that what is expected is likely clear."""

    task_id: str
    batch_name: str
    start: str
    submitted: int
    agreement: float


class Given(NamedTuple):
    """How one labeler answered a gold question. score: 0 to 1."""

    pseudonym: str
    tiers: dict[str, int]
    score: float
    passed: bool
    at: int


@dataclass(frozen=True, slots=True)
class Workpiece:
    """A ranking task in the workshop. expected: None for an ordinary task."""

    task_id: str
    batch_id: str
    batch_name: str
    prompt: Prompt
    responses: tuple[Shown, ...]
    flags: tuple[Flag, ...]
    agreement: float | None
    expected: Expected | None
    explanation: str
    retired: bool
    given: tuple[Given, ...]


def candidates(c: Connection, *, limit: int = 20) -> list[Candidate]:
    """Tasks that two or more people judged, the highest agreement first."""
    is_gold = select(gold_key.c.task_id).where(gold_key.c.task_id == task.c.id).exists()
    query = (
        select(task.c.id, batch.c.name, prompt.c.messages, task.c.submitted, task.c.agreement)
        .join(batch, batch.c.id == task.c.batch_id)
        .join(prompt, prompt.c.id == task.c.prompt_id)
        .where(task.c.agreement >= 0.8, batch.c.purpose == "work", task.c.status != "retired", ~is_gold)
        .order_by(task.c.agreement.desc(), task.c.submitted.desc(), task.c.id)
        .limit(limit)
    )
    rows = cast(Iterable[Any], c.execute(query))
    return [Candidate(row.id, row.name, prompt_start(row), row.submitted, row.agreement) for row in rows]


def starts(c: Connection, task_ids: list[str]) -> dict[str, str]:
    """The start of each task's prompt."""
    query = (
        select(task.c.id, prompt.c.messages)
        .join(prompt, prompt.c.id == task.c.prompt_id)
        .where(task.c.id.in_(task_ids))
    )
    rows = cast(Iterable[Any], c.execute(query))
    return {row.id: prompt_start(row) for row in rows}


def workpiece(c: Connection, task_id: str) -> Workpiece:
    """One task with its answers, its key if it has one, and what labelers said.

    Raises FeedbackError "not_found" for a task that is none of ranking.
    """
    row = c.execute(
        select(task, batch.c.name, batch.c.guideline_id, prompt.c.messages, gold_key.c.expected)
        .add_columns(gold_key.c.explanation, gold_key.c.retired_at)
        .join(batch, batch.c.id == task.c.batch_id)
        .join(prompt, prompt.c.id == task.c.prompt_id)
        .outerjoin(gold_key, gold_key.c.task_id == task.c.id)
        .where(task.c.id == task_id, batch.c.kind == "ranking")
    ).first()
    if row is None:
        raise FeedbackError("not_found", "There is no such ranking task.", status=404)
    return Workpiece(
        row.id,
        row.batch_id,
        row.name,
        read_prompt(row),
        tasks.responses_of(c, task_id),
        read(c, row.guideline_id).flags,
        row.agreement,
        None if row.expected is None else Expected.model_validate(row.expected),
        row.explanation or "",
        row.retired_at is not None,
        tuple(_given(c, task_id)),
    )


def expected_of(ranks: Mapping[str, int], required: Mapping[str, str]) -> Expected:
    """The expected answer from ranks of some responses: each pair of different ranks is asked for. required: flags.

    Raises pydantic's ValidationError if nothing is asked for.
    """
    pairs = [
        {"better": better, "worse": worse}
        for better, first in sorted(ranks.items())
        for worse, second in sorted(ranks.items())
        if first < second
    ]
    flags = [{"response": name, "flag": flag} for name, flag in sorted(required.items()) if flag]
    return Expected.model_validate({"constraints": pairs, "required": flags})


def make(c: Connection, task_id: str, expected: Expected, explanation: str, batch_id: str, *, by: str | None) -> None:
    """Make a task a gold question where it is, or put a copy as one into another batch.

    Raises FeedbackError as `gold.make_gold` and `tasks.add_tasks`, or "is_known" if that batch has the same task.
    """
    found = workpiece(c, task_id)
    if batch_id == found.batch_id:
        gold.make_gold(c, task_id, expected, explanation, by=by)
        return
    prompt_id = c.execute(select(task.c.prompt_id).where(task.c.id == task_id)).scalar_one()
    ids = tuple(one.id for one in found.responses)
    copy = NewTask(prompt_id, ids, gold=NewGold(expected, explanation))
    if not tasks.add_tasks(c, batch_id, [copy], by=by).new:
        raise FeedbackError("is_known", f"The batch {get_batch(c, batch_id).name} has this task already.")


def _given(c: Connection, task_id: str) -> list[Given]:
    rows = c.execute(
        select(submission.c.id, submission.c.created_at, member.c.pseudonym, gold_result.c.score, gold_result.c.passed)
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .join(member, member.c.id == assignment.c.member_id)
        .join(gold_result, gold_result.c.submission_id == submission.c.id)
        .where(assignment.c.task_id == task_id, assignment.c.state == "submitted", is_effective(submission))
        .order_by(gold_result.c.score, submission.c.created_at)
    ).all()
    entries = c.execute(select(ranking_entry).where(ranking_entry.c.submission_id.in_([row.id for row in rows])))
    tiers: dict[str, dict[str, int]] = {row.id: {} for row in rows}
    for entry in entries:
        tiers[entry.submission_id][entry.response_id] = entry.tier
    return [Given(row.pseudonym, tiers[row.id], row.score, row.passed, row.created_at) for row in rows]
