"""Who works on what: tasks are leased to a labeler for a while, and come back when nobody is there any more.

A lease is a slot of the task (`slots`). It ends by a submit, a skip, a release, or because its time is up. `lease_no`
goes up each time the same labeler gets the same task again, so that a page left open from before cannot act for the
new one.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import Connection, insert, select, update

from plaudit.core.records import Prompt
from plaudit.feedback.content import content
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store import clock
from plaudit.feedback.store.tables import (
    assignment,
    new_id,
    task,
)
from plaudit.feedback.tasks import slots
from plaudit.feedback.tasks.answers import Answer, load_answers
from plaudit.feedback.tasks.batches import Batch, BatchConfig, Purpose, running_batches
from plaudit.feedback.tasks.guidelines import Flag
from plaudit.feedback.tasks.tasks import Shown
from plaudit.feedback.work import assignment_queries as queries
from plaudit.feedback.work.picking import Pick, pick, pick_waiting, shown_order

LONGEST_LEASE = 8 * clock.HOUR  # a page that is left open overnight does not keep a task for ever
MAX_LEASES = 3  # of one person, in different batches

SkipReason = Literal["unclear", "too_long", "not_my_field", "distressing", "broken"]
SKIP_REASONS: tuple[SkipReason, ...] = get_args(SkipReason)
_FAULT_OF_TASK: tuple[SkipReason, ...] = ("unclear", "distressing", "broken")


class Draft(NamedTuple):
    """What was saved while working. `revision` counts the saves."""

    revision: int
    payload: dict[str, Any]
    updated_at: int


class TaskRules(NamedTuple):
    """What a labeler may know of the settings of a batch: nothing about gold or overlap."""

    reason_required: bool
    ask_confidence: bool
    blur: bool
    lease_minutes: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """A task in a labeler's hands, with all that its page shows. Gold questions look the same.

    responses: in the order of this labeler. state: "leased", "submitted" … answer: the last one submitted.
    """

    id: str
    task_id: str
    batch_id: str
    batch_name: str
    kind: str
    purpose: str
    state: str
    prompt: Prompt
    responses: tuple[Shown, ...]
    guideline_id: str
    guideline_version: int
    flags: tuple[Flag, ...]
    lease_no: int
    lease_expires_at: int
    idempotency_key: str
    draft: Draft | None
    answer: Answer | None
    config: TaskRules


def claim(
    c: Connection, member_id: str, *, secret: bytes, batch_id: str | None = None, purpose: Purpose = "work"
) -> Assignment | None:
    """The task this labeler has open, or the next one; None if there is nothing to do.

    secret: the project's own, which decides about gold questions and the order of the responses.

    Raises FeedbackError "not_found", "paused", "not_qualified" (403) or "too_many_open".
    """
    # One claim at a time for each labeler: two tabs get the same task.
    _check_state(c.execute(queries.LOCK_MEMBER, {"member_id": member_id}).scalar(), purpose)
    held = _held(c, member_id)
    for row in held:
        if row.batch_id == batch_id or (batch_id is None and row.purpose == purpose):
            _extend(c, row)
            return open_assignment(c, member_id, row.id)
    if len(held) >= MAX_LEASES:
        raise FeedbackError(
            "too_many_open", f"You have {len(held)} tasks open. Submit, skip or release one of them first."
        )
    batches = running_batches(c, purpose, batch_id)
    swept = expire(c)
    # Tasks that others are being given are passed over at first. This transaction may wait for them only while it holds
    # none itself: it could wait in a circle. It holds those it has swept, and those that it locked to find that they no
    # longer fit; the savepoint lets go of these. On SQLite there is nobody to wait for.
    waits = not swept and c.dialect.name == "postgresql"
    with c.begin_nested() if waits else nullcontext() as trial:
        found = _first(batches, lambda one: pick(c, member_id, one, secret))
        if found is None and trial is not None:
            trial.rollback()
    if found is None and waits:
        found = _first(batches, lambda one: pick_waiting(c, member_id, one))
    return _take(c, member_id, *found, secret) if found else None


def open_assignment(c: Connection, member_id: str, assignment_id: str) -> Assignment:
    """A task of this labeler, for its page: open, or submitted and to be edited.

    Raises FeedbackError "not_found" (404), also for somebody else's.
    """
    row = c.execute(queries.OPEN, {"assignment_id": assignment_id, "member_id": member_id}).first()
    if row is None:
        raise not_yours()
    texts = {found.id: found.body for found in c.execute(queries.BODIES, {"ids": row.shown})} if row.shown else {}
    config = BatchConfig.model_validate(row.config)
    return Assignment(
        id=row.id,
        task_id=row.task_id,
        batch_id=row.batch_id,
        batch_name=row.name,
        kind=row.kind,
        purpose=row.purpose,
        state=row.state,
        prompt=content.read_prompt(row),
        responses=tuple(Shown(name, texts[name]) for name in row.shown),
        guideline_id=row.guideline_id,
        guideline_version=row.version,
        flags=tuple(Flag(one["key"], one["label"], one.get("help", "")) for one in row.flags),
        lease_no=row.lease_no,
        lease_expires_at=row.lease_expires_at,
        idempotency_key=row.idempotency_key,
        draft=None if row.draft_revision is None else Draft(row.draft_revision, row.payload, row.updated_at),
        answer=load_answers(c, [row.last_sent])[row.last_sent] if row.last_sent else None,
        config=TaskRules(config.reason_required, config.ask_confidence, config.blur, config.lease_minutes),
    )


def heartbeat(c: Connection, member_id: str, assignment_id: str, lease_no: int) -> int:
    """Keep a lease while its page is in use. Returns its new end, at most LONGEST_LEASE after the claim.

    Raises FeedbackError "not_found", "lease_lost".
    """
    row = locked(c, member_id, assignment_id)
    if row.state != "leased" or row.lease_no != lease_no:
        raise lease_lost()
    return _extend(c, row)


def skip(c: Connection, member_id: str, assignment_id: str, reason: SkipReason) -> None:
    """Leave a task to others. It does not come back, unless the batch says that skipped tasks come back last.

    Doing it twice is the same as once: a reply can get lost, and the request is sent again.

    Raises FeedbackError "not_found", "lease_lost", "invalid_reason".
    """
    if reason not in SKIP_REASONS:
        raise FeedbackError("invalid_reason", f"A reason is one of {', '.join(SKIP_REASONS)}.", status=422)
    row = locked(c, member_id, assignment_id)
    if row.state == "skipped":
        return
    _end(c, row, "skipped", reason)
    most = BatchConfig.model_validate(row.config).skips_to_retire
    if not most or reason not in _FAULT_OF_TASK:
        return
    skips = c.execute(
        select(assignment.c.id).where(
            assignment.c.task_id == row.task_id,
            assignment.c.state == "skipped",
            assignment.c.end_reason.in_(_FAULT_OF_TASK),
        )
    ).all()
    if len(skips) >= most:
        c.execute(update(task).where(task.c.id == row.task_id, task.c.status == "open").values(status="retired"))


def release(c: Connection, member_id: str, assignment_id: str) -> None:
    """Give a task back for now. A draft stays, and with it the task comes back first. Twice is the same as once.

    Raises FeedbackError "not_found", "lease_lost".
    """
    row = locked(c, member_id, assignment_id)
    if row.state != "released":
        _end(c, row, "released", None)


def expire(c: Connection) -> int:
    """End the leases whose time is up; every claim does. Returns how many."""
    now = clock.now()
    rows = c.execute(queries.OVERDUE, {"now": now}).all()
    if rows:
        c.execute(
            update(assignment)
            .where(assignment.c.id.in_([row.id for row in rows]))
            .values(state="expired", ended_at=now, end_reason="expired")
        )
        _give_back(c, rows)
    return len(rows)


# --- shared with submissions ----------------------------------------------------------------------------------------


def locked(c: Connection, member_id: str, assignment_id: str) -> Any:
    """The row of a labeler's assignment with kind, status and settings of its batch; nobody else changes it meanwhile.

    Raises FeedbackError "not_found" (404), also for somebody else's.
    """
    row = c.execute(queries.LOCKED, {"assignment_id": assignment_id, "member_id": member_id}).first()
    if row is None:
        raise not_yours()
    return row


def new_lease(row: Any) -> dict[str, Any]:
    """Values that lease an assignment anew to the same labeler, under the next number."""
    now = clock.now()
    minutes = BatchConfig.model_validate(row.config).lease_minutes
    return {
        "state": "leased",
        "lease_no": row.lease_no + 1,
        "leased_at": now,
        "lease_expires_at": now + minutes * clock.MINUTE,
        "idempotency_key": new_id(),
        "ended_at": None,
        "end_reason": None,
    }


def not_yours() -> FeedbackError:
    return FeedbackError("not_found", "There is no such task among yours.", status=404)


def lease_lost() -> FeedbackError:
    return FeedbackError(
        "lease_lost", "This task is no longer open on this page: its time was up, or it is open elsewhere. Reload it."
    )


# --- inside ---------------------------------------------------------------------------------------------------------


def _check_state(state: str | None, purpose: Purpose) -> None:
    if state is None:
        raise FeedbackError("not_found", "There is no such member.", status=404)
    if state not in ("training", "qualified"):
        raise FeedbackError("paused", f"Your work is {state}. Ask the project's admins.", status=403)
    if state == "training" and purpose == "work":
        raise FeedbackError("not_qualified", "Finish the training and the qualification first.", status=403)


def _held(c: Connection, member_id: str) -> Sequence[Any]:
    return c.execute(queries.HELD, {"member_id": member_id, "now": clock.now()}).all()


def _first(batches: Sequence[Batch], picked: Callable[[Batch], Pick | None]) -> tuple[Batch, Pick] | None:
    for one in batches:
        if chosen := picked(one):
            return one, chosen
    return None


def _take(c: Connection, member_id: str, found: Batch, picked: Pick, secret: bytes) -> Assignment:
    taken = slots.take(c, picked.task_id)
    assert taken, "a picked task is locked and has a free slot"
    return open_assignment(c, member_id, _lease(c, member_id, found, picked, secret))


def _lease(c: Connection, member_id: str, found: Batch, picked: Pick, secret: bytes) -> str:
    if picked.assignment_id is not None:
        old = locked(c, member_id, picked.assignment_id)
        c.execute(update(assignment).where(assignment.c.id == old.id).values(**new_lease(old)))
        return picked.assignment_id
    now = clock.now()
    ids = c.execute(queries.RESPONSES, {"task_id": picked.task_id}).scalars()
    assignment_id = new_id()
    values: dict[str, Any] = {
        "id": assignment_id,
        "task_id": picked.task_id,
        "member_id": member_id,
        "state": "leased",
        "lease_no": 1,
        "leased_at": now,
        "lease_expires_at": now + found.config.lease_minutes * clock.MINUTE,
        "shown": shown_order(secret, member_id, picked.task_id, list(ids)),
        "idempotency_key": new_id(),
        "guideline_id": found.guideline_id,
    }
    c.execute(insert(assignment), values)
    return assignment_id


def _extend(c: Connection, row: Any) -> int:
    minutes = BatchConfig.model_validate(row.config).lease_minutes
    end = max(row.lease_expires_at, min(clock.now() + minutes * clock.MINUTE, row.leased_at + LONGEST_LEASE))
    c.execute(update(assignment).where(assignment.c.id == row.id).values(lease_expires_at=end))
    return end


def _end(c: Connection, row: Any, state: str, reason: str | None) -> None:
    if row.state != "leased":
        raise lease_lost()
    c.execute(
        update(assignment).where(assignment.c.id == row.id).values(state=state, ended_at=clock.now(), end_reason=reason)
    )
    _give_back(c, [row])


def _give_back(c: Connection, rows: Sequence[Any]) -> None:
    slots.give_back(c, [(row.task_id, row.end_reason == slots.SURPLUS) for row in rows])
