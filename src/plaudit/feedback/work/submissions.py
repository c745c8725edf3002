"""Submitting: once, whole, and never losing what was typed.

A submit is one transaction under the lock of its assignment. The server hands out an idempotency key with each lease
and after each submit; a request that comes twice finds its key used and gets the receipt of the first. An edit is a
submit with the next key. An undo withdraws the newest revision and opens the task again, with the answer as draft.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.gold import gold
from plaudit.feedback.store import clock
from plaudit.feedback.store.tables import assignment, guideline, new_id, submission, task
from plaudit.feedback.tasks import slots
from plaudit.feedback.tasks.answers import Answer, RankingAnswer, checked, fingerprint, load_answers, store_answer
from plaudit.feedback.tasks.batches import BatchConfig
from plaudit.feedback.tasks.effective import add_event
from plaudit.feedback.tasks.overlap import after_judgment
from plaudit.feedback.work.assignment import lease_lost, locked, new_lease
from plaudit.feedback.work.drafts import draft_of_answer, drop_draft

UNDO_MS = 2 * clock.MINUTE  # later on, an edit says the same and keeps the slot


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a submit did.

    replayed: it had been done before, and nothing was added. late: the lease was over, the work was kept.
    """

    submission_id: str
    revision: int
    replayed: bool
    late: bool


def submit(
    c: Connection,
    member_id: str,
    assignment_id: str,
    answer: Answer,
    *,
    idempotency_key: str,
    lease_no: int,
    active_ms: int | None,
) -> Receipt:
    """Submit an answer, or the next revision of a submitted one.

    After the lease has ended the slot is taken again if it is free; otherwise the task gets one slot more than it asked
    for, so that nobody's work is lost. Sending the same request again returns the same receipt.

    Raises FeedbackError "not_found" (404), "invalid_answer" (422), "key_reused" (409: the same key, another answer),
    "stale_key" and "lease_lost" (the task went on elsewhere), "voided", "batch_closed", "final".
    """
    row = locked(c, member_id, assignment_id)
    sent = c.execute(_SENT, {"assignment_id": assignment_id}).all()
    before = next((one for one in sent if one.idempotency_key == idempotency_key), None)
    answer = _checked(c, row, answer, again=before is not None)
    digest = fingerprint(answer)
    if before is not None:
        return _replay(before, row, digest)
    editing = row.state == "submitted"
    _check_allowed(row, idempotency_key, lease_no, editing=editing)
    # The task before all else: everybody who submits to it stands in line, and sees the judgments of those before.
    c.execute(_LOCK_TASK, {"task_id": row.task_id})
    end_reason, late = _hold_slot(c, row)
    revision = sent[-1].revision + 1 if sent else 1
    submission_id = _insert(c, row, answer, revision, idempotency_key, digest, active_ms)
    ended = {"ended_at": clock.now(), "end_reason": end_reason}
    c.execute(_END, {"held": assignment_id, "state": "submitted", "idempotency_key": new_id(), **ended})
    if not editing:
        slots.submitted(c, row.task_id)
    gold.score_submission(c, row.task_id, submission_id, answer)
    after_judgment(c, row.task_id)
    drop_draft(c, assignment_id)
    if row.purpose == "qualification":
        gold.qualify(c, member_id, row.batch_id)
    return Receipt(submission_id, revision, replayed=False, late=late)


def undo(c: Connection, member_id: str, submission_id: str) -> str:
    """Take back the newest submission of a task right after submitting it. Returns the id of the assignment.

    The task is open again on a new lease with the answer as its draft. Undoing twice is the same as once.

    Raises FeedbackError "not_found" (404), "too_late", "superseded" (there is a newer revision), "voided",
    "batch_closed", "final".
    """
    found = c.execute(select(submission).where(submission.c.id == submission_id)).first()
    row = locked(c, member_id, found.assignment_id if found else "")
    assert found is not None  # `locked` has raised
    newest = c.execute(
        select(submission.c.id)
        .where(submission.c.assignment_id == row.id)
        .order_by(submission.c.revision.desc())
        .limit(1)
    ).scalar_one()
    if newest != submission_id:
        raise FeedbackError("superseded", "There is a newer revision of this answer; undo that one.")
    if row.state != "submitted":
        if row.state == "voided":
            raise _voided()
        return row.id
    _check_open(row)
    if clock.now() - found.created_at > UNDO_MS:
        raise FeedbackError(
            "too_late", "Undo works for two minutes. Open the task in your history and edit it instead."
        )
    c.execute(_LOCK_TASK, {"task_id": row.task_id})
    add_event(c, submission_id, "withdrawn", "undo", member_id=member_id)
    # A surplus slot stays marked: the overlap was raised for it.
    again = {**new_lease(row), "end_reason": row.end_reason if row.end_reason == slots.SURPLUS else None}
    c.execute(update(assignment).where(assignment.c.id == row.id).values(**again))
    slots.reopened(c, row.task_id)
    after_judgment(c, row.task_id)
    draft_of_answer(c, row.id, load_answers(c, [submission_id])[submission_id])
    return row.id


def _checked(c: Connection, row: Any, answer: Answer, *, again: bool) -> Answer:
    return checked(
        answer,
        kind=row.kind,
        shown=row.shown,
        known_flags=_known_flags(c, row.guideline_id) if isinstance(answer, RankingAnswer) and answer.flags else (),
        # What was taken once is taken again, whatever the batch asks for since.
        reason_required=not again and BatchConfig.model_validate(row.config).reason_required,
    )


def _known_flags(c: Connection, guideline_id: str) -> list[str]:
    flags = c.execute(select(guideline.c.flags).where(guideline.c.id == guideline_id)).scalar_one()
    return [flag["key"] for flag in cast(Iterable[dict[str, str]], flags)]


def _replay(before: Row[Any], row: Any, digest: str) -> Receipt:
    if before.request_sha256 != digest:
        raise FeedbackError(
            "key_reused", "An answer was submitted from this page already, and this is another one. Reload to edit it."
        )
    late = before.created_at > row.lease_expires_at
    return Receipt(before.id, before.revision, replayed=True, late=late)


def _check_allowed(row: Any, idempotency_key: str, lease_no: int, *, editing: bool) -> None:
    if row.state == "voided":
        raise _voided()
    if row.lease_no != lease_no:
        raise lease_lost()
    if row.idempotency_key != idempotency_key:
        raise FeedbackError("stale_key", "This task was submitted from another page. Reload to see it.")
    if editing:
        _check_open(row)


def _check_open(row: Any) -> None:
    if row.batch_status == "closed":
        raise FeedbackError("batch_closed", "The batch is closed, so its answers stay as they are.")
    if row.purpose == "qualification":
        raise FeedbackError("final", "Answers in a qualification are final.")


def _voided() -> FeedbackError:
    return FeedbackError("voided", "A reviewer has voided this work, so it cannot be changed.")


def _hold_slot(c: Connection, row: Any) -> tuple[str | None, bool]:
    """Make sure that this assignment holds a slot. Returns its end reason, and whether it is late."""
    if row.state == "submitted":
        return row.end_reason, False
    if row.state == "leased":
        return row.end_reason, clock.now() > row.lease_expires_at
    if slots.take(c, row.task_id):
        return None, True
    slots.take_extra(c, row.task_id)
    return slots.SURPLUS, True


def _insert(
    c: Connection, row: Any, answer: Answer, revision: int, idempotency_key: str, digest: str, active_ms: int | None
) -> str:
    submission_id = new_id()
    values: dict[str, Any] = {
        "id": submission_id,
        "assignment_id": row.id,
        "revision": revision,
        "idempotency_key": idempotency_key,
        "request_sha256": digest,
        "outcome": answer.outcome,
        "confidence": answer.confidence,
        "active_ms": active_ms,
        "guideline_id": row.guideline_id,
        "created_at": clock.now(),
    }
    c.execute(insert(submission), values)
    store_answer(c, submission_id, answer)
    return submission_id


_SENT = (
    select(submission).where(submission.c.assignment_id == bindparam("assignment_id")).order_by(submission.c.revision)
)
_LOCK_TASK = select(task.c.id).where(task.c.id == bindparam("task_id")).with_for_update(key_share=True)
_END = update(assignment).where(assignment.c.id == bindparam("held"))
