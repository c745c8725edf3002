"""How far one labeler is, for their own home page.

Work batches give only what the labeler did: how much is left would tell gold questions from ordinary ones, because
those are counted differently. In training and qualification everything is gold, and the total may be shown.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from plaudit.feedback.store.tables import assignment, task
from plaudit.feedback.tasks.batches import Batch, list_batches


@dataclass(frozen=True, slots=True)
class OwnBatch:
    """A running batch as one labeler sees it. total: None where it is not theirs to know."""

    batch: Batch
    submitted: int
    total: int | None


@dataclass(frozen=True, slots=True)
class OpenTask:
    """A task this labeler holds."""

    assignment_id: str
    batch: Batch
    lease_expires_at: int


def own_batches(c: Connection, member_id: str) -> list[OwnBatch]:
    """The running batches, oldest first, with what this labeler submitted in each."""
    submitted = _submitted_by_batch(c, member_id)
    found: list[OwnBatch] = []
    for one in list_batches(c):
        if one.status == "running":
            total = None
            if one.purpose != "work":
                live = (task.c.batch_id == one.id) & (task.c.status != "retired")
                total = c.execute(select(func.count()).select_from(task).where(live)).scalar_one()
            found.append(OwnBatch(one, submitted.get(one.id, 0), total))
    return found


def open_tasks(c: Connection, member_id: str) -> list[OpenTask]:
    """The tasks in this labeler's hands, oldest first."""
    rows = c.execute(
        select(assignment.c.id, assignment.c.lease_expires_at, task.c.batch_id)
        .join(task, task.c.id == assignment.c.task_id)
        .where(assignment.c.member_id == member_id, assignment.c.state == "leased")
        .order_by(assignment.c.leased_at)
    ).all()
    batches = {one.id: one for one in list_batches(c, batch_ids=[row.batch_id for row in rows])}
    return [OpenTask(row.id, batches[row.batch_id], row.lease_expires_at) for row in rows]


def submitted_since(c: Connection, member_id: str, at: int) -> int:
    """Tasks this labeler submitted since `at` (milliseconds UTC)."""
    return c.execute(
        select(func.count())
        .select_from(assignment)
        .where(assignment.c.member_id == member_id, assignment.c.state == "submitted", assignment.c.ended_at >= at)
    ).scalar_one()


def _submitted_by_batch(c: Connection, member_id: str) -> dict[str, int]:
    rows = c.execute(
        select(task.c.batch_id, func.count())
        .join(assignment, assignment.c.task_id == task.c.id)
        .where(assignment.c.member_id == member_id, assignment.c.state == "submitted")
        .group_by(task.c.batch_id)
    )
    return {row[0]: row[1] for row in rows}
