"""What happened to a task besides its judgments: skips, and answers that were voided or restored."""

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store.tables import assignment, gold_key, member, submission, submission_event, task


class Skipped(NamedTuple):
    """How many people skipped a task for one reason."""

    reason: str
    people: int


class Review(NamedTuple):
    """An answer was voided or restored. by: pseudonym; None for the command line."""

    labeler: str
    kind: str
    reason: str
    by: str | None
    at: int


@dataclass(frozen=True, slots=True)
class CaseHistory:
    """status: of the task, "retired" if people skipped it too often. gold: whether it has an expected answer."""

    status: str
    gold: bool
    skips: tuple[Skipped, ...]
    reviews: tuple[Review, ...]


def case_history(c: Connection, task_id: str) -> CaseHistory:
    """Raises FeedbackError "not_found"."""
    status = c.scalar(select(task.c.status).where(task.c.id == task_id))
    if status is None:
        raise FeedbackError("not_found", "There is no such task.", status=404)
    skipped = (
        select(assignment.c.end_reason, func.count())
        .where(assignment.c.task_id == task_id, assignment.c.state == "skipped")
        .group_by(assignment.c.end_reason)
        .order_by(func.count().desc(), assignment.c.end_reason)
    )
    reviewer = member.alias("reviewer")
    reviews = (
        select(
            member.c.pseudonym,
            submission_event.c.kind,
            submission_event.c.reason,
            reviewer.c.pseudonym,
            submission_event.c.created_at,
        )
        .join(submission, submission.c.id == submission_event.c.submission_id)
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .join(member, member.c.id == assignment.c.member_id)
        .outerjoin(reviewer, reviewer.c.id == submission_event.c.member_id)
        .where(assignment.c.task_id == task_id, submission_event.c.kind.in_(("voided", "restored")))
        .order_by(submission_event.c.created_at.desc())
    )
    return CaseHistory(
        status,
        c.execute(select(gold_key.c.task_id).where(gold_key.c.task_id == task_id)).first() is not None,
        tuple(Skipped(reason or "", people) for reason, people in c.execute(skipped)),
        tuple(Review(*row) for row in c.execute(reviews)),
    )
