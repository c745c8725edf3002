"""A labeler's own past work, newest first."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from plaudit.feedback.content.content import prompt_start
from plaudit.feedback.store.tables import assignment, batch, prompt, submission, task
from plaudit.feedback.tasks.effective import is_newest

PAGE = 20


@dataclass(frozen=True, slots=True)
class Past:
    """One task that a labeler has submitted.

    prompt:   the start of its last message. state: "submitted", or "voided" by a reviewer.
    revision: number of the newest answer; above 1 it was edited. editable: whether an edit is possible.
    """

    assignment_id: str
    submission_id: str
    batch_name: str
    kind: str
    prompt: str
    state: str
    submitted_at: int
    revision: int
    editable: bool


@dataclass(frozen=True, slots=True)
class PastPage:
    """One page of a list; pages count from 1."""

    items: list[Past]
    page: int
    pages: int
    total: int


def history(c: Connection, member_id: str, page: int = 1) -> PastPage:
    """Submitted tasks of one member; nothing tells gold questions from others. Pages out of range are empty."""
    mine = (assignment.c.member_id == member_id) & assignment.c.state.in_(("submitted", "voided"))
    total = c.execute(select(func.count()).select_from(assignment).where(mine)).scalar_one()
    rows = c.execute(
        select(
            assignment.c.id,
            assignment.c.state,
            submission.c.id.label("submission_id"),
            submission.c.created_at,
            submission.c.revision,
            batch.c.name,
            batch.c.kind,
            batch.c.purpose,
            batch.c.status,
            prompt.c.messages,
        )
        .join(task, task.c.id == assignment.c.task_id)
        .join(batch, batch.c.id == task.c.batch_id)
        .join(prompt, prompt.c.id == task.c.prompt_id)
        .join(submission, submission.c.assignment_id == assignment.c.id)
        .where(mine, is_newest())
        .order_by(assignment.c.ended_at.desc(), assignment.c.id)
        .limit(PAGE)
        .offset((max(page, 1) - 1) * PAGE)
    )
    items = [_past(row) for row in rows]
    return PastPage(items, max(page, 1), max(1, -(-total // PAGE)), total)


def _past(row: Any) -> Past:
    return Past(
        assignment_id=row.id,
        submission_id=row.submission_id,
        batch_name=row.name,
        kind=row.kind,
        prompt=prompt_start(row),
        state=row.state,
        submitted_at=row.created_at,
        revision=row.revision,
        editable=row.state == "submitted" and row.status != "closed" and row.purpose != "qualification",
    )
