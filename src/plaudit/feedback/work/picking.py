"""Which task a labeler gets next, and whether it is a gold question.

Order: one's own abandoned task with a draft; a gold question when its turn has come; a task that others began, so that
tasks are finished; a fresh one; last of all what one let go without a draft. On PostgreSQL tasks that other people are
being given at this moment are passed over (SKIP LOCKED); SQLite gives out one task at a time anyway.
"""

import hashlib
import hmac
import math
import random
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Select,
    String,
    TextClause,
    and_,
    bindparam,
    exists,
    false,
    func,
    literal_column,
    not_,
    or_,
    select,
)
from sqlalchemy import text as sql_text

from plaudit.feedback.store.tables import EVERYBODY, assignment, draft, gold_key, origin, response, task, task_response
from plaudit.feedback.tasks.batches import Batch, BatchConfig

# Word for word the conditions of the indexes ix_task_begun and ix_task_fresh: bound values would hide them from SQLite.
_BEGUN = sql_text(
    f"task.status = 'open' AND task.slots_taken > 0 AND task.slots_taken < task.overlap AND task.overlap < {EVERYBODY}"
)
_FREE = sql_text("task.status = 'open' AND task.slots_taken < task.overlap")
_FRESH = sql_text(f"task.status = 'open' AND task.slots_taken = 0 AND task.overlap < {EVERYBODY}")
_OFFERED = sql_text(f"({_BEGUN.text} OR {_FRESH.text})")


class Pick(NamedTuple):
    """A task whose row is locked, and the assignment that this labeler has on it already, if any."""

    task_id: str
    assignment_id: str | None = None


def pick(c: Connection, member_id: str, batch: Batch, secret: bytes) -> Pick | None:
    """The next task of the batch for this labeler, locked; None if there is none that is not locked by others."""
    if batch.purpose != "work":
        return _again(c, member_id, batch, drafted=True) or _new(c, member_id, batch, _FREE)
    return (
        _again(c, member_id, batch, drafted=True)
        or _gold(c, member_id, batch, secret)
        or _new(c, member_id, batch, _BEGUN)
        or _new(c, member_id, batch, _FRESH)
        or _again(c, member_id, batch, drafted=False)
    )


def pick_waiting(c: Connection, member_id: str, batch: Batch) -> Pick | None:
    """A task of the batch, after waiting for those that are being given out at this moment. Hold no task before.

    It waits for one after the other, and for none while it holds another.
    """
    condition, work = (_OFFERED, True) if batch.purpose == "work" else (_FREE, False)
    wanted = {"batch_id": batch.id, "member_id": member_id}
    for task_id in c.execute(_new_query(condition, work=work), wanted).scalars().all():
        with c.begin_nested() as trial:
            if c.execute(_THIS_WAITING, {"task_id": task_id}).first():
                return Pick(task_id)
            trial.rollback()  # lets go of a task that is full by now
    return None


def gold_due(secret: bytes, member_id: str, number: int, config: BatchConfig) -> bool:
    """Whether a labeler's task `number` (0 is the first) is a gold question.

    Decided by a keyed hash: without the secret it cannot be foreseen, and asking again gives the same answer. Never two
    in a row; the chance of each draw is raised so that the share of gold is still the one asked for.
    """
    return _drawn(secret, member_id, number, config) and not (
        number > 0 and _drawn(secret, member_id, number - 1, config)
    )


def shown_order(secret: bytes, member_id: str, task_id: str, response_ids: list[str]) -> list[str]:
    """The order in which this labeler sees the responses of a task."""
    seed = int.from_bytes(_digest(secret, "order", member_id, task_id)[:8], "big")
    return random.Random(seed).sample(sorted(response_ids), len(response_ids))


def _drawn(secret: bytes, member_id: str, number: int, config: BatchConfig) -> bool:
    rate = config.gold_rate_start if number < config.gold_start else config.gold_rate
    # A draw counts only if the one before was none: p (1 - p) = rate.
    chance = (1 - math.sqrt(1 - 4 * rate)) / 2
    value = int.from_bytes(_digest(secret, "gold", member_id, str(number))[:8], "big")
    return value < chance * 2**64


def _digest(secret: bytes, *names: str) -> bytes:
    return hmac.new(secret, "\n".join(names).encode(), hashlib.sha256).digest()


def _gold(c: Connection, member_id: str, batch: Batch, secret: bytes) -> Pick | None:
    number = c.execute(_TASKS_SO_FAR, {"member_id": member_id}).scalar_one()
    if not gold_due(secret, member_id, number, batch.config):
        return None
    ids = c.execute(_GOLD, {"batch_id": batch.id, "member_id": member_id}).scalars()
    # In an order of the labeler's own: two who compare notes have not met the same questions.
    for task_id in sorted(ids, key=lambda task_id: _digest(secret, "which gold", member_id, task_id)):
        # Never waiting: this transaction may hold other tasks, and two that wait for each other would never end.
        if found := c.execute(_THIS, {"task_id": task_id}).first():
            return Pick(found.id)
    return None


def _new(c: Connection, member_id: str, batch: Batch, condition: TextClause) -> Pick | None:
    """The task of highest priority that fulfils the condition and was never this labeler's."""
    query = _first_of(_new_query(condition, work=batch.purpose == "work"))
    found = c.execute(query, {"batch_id": batch.id, "member_id": member_id}).first()
    return Pick(found.id) if found else None


def _again(c: Connection, member_id: str, batch: Batch, *, drafted: bool) -> Pick | None:
    """A task this labeler let go: with a draft (typed words come back first), or any that may come back."""
    query = _again_query(drafted=drafted, skipped=batch.config.after_skip == "later")
    found = c.execute(query, {"batch_id": batch.id, "member_id": member_id}).first()
    return Pick(found.id, found.assignment_id) if found else None


# --- statements, each made once (see `assignment_queries`) ------------------------------------------------------------

_BATCH, _MEMBER = task.c.batch_id == bindparam("batch_id"), assignment.c.member_id == bindparam("member_id")
_MINE = select(assignment.c.id).where(assignment.c.task_id == task.c.id, _MEMBER)
# Whether one of the responses was written by this labeler, who would judge it kindly.
_OWN_WORDS = (
    select(task_response.c.task_id)
    .join(response, response.c.id == task_response.c.response_id)
    .join(origin, origin.c.id == response.c.origin_id)
    .where(
        task_response.c.task_id == task.c.id,
        origin.c.kind == "person",
        origin.c.info["member_id"].as_string() == bindparam("member_id"),
    )
)


@cache
def _first_of(query: Select[Any]) -> Select[Any]:
    # "No key update" is enough, and lets others add rows that refer to the task.
    return query.limit(1).with_for_update(of=task, key_share=True, skip_locked=True)


# In words: with a bound value PostgreSQL takes them for as many as those that are submitted.
_SKIPPED = literal_column("'skipped'", String)
_LET_GO = (literal_column("'expired'", String), literal_column("'released'", String))
_TASKS_SO_FAR = select(func.count()).where(_MEMBER)
_GOLD = (
    select(task.c.id)
    .join(gold_key, gold_key.c.task_id == task.c.id)
    .where(_BATCH, _FREE, gold_key.c.retired_at.is_(None), not_(_MINE.exists()))
)
_one = select(task.c.id).where(task.c.id == bindparam("task_id"), _FREE)
_THIS, _THIS_WAITING = _first_of(_one), _one.with_for_update(key_share=True)


@cache
def _new_query(condition: TextClause, *, work: bool) -> Select[Any]:
    gold = select(gold_key.c.task_id).where(gold_key.c.task_id == task.c.id)
    unwanted = (_MINE, _OWN_WORDS, gold) if work else (_MINE, _OWN_WORDS)
    # Both databases are to walk along the index in the order of priority, and to stop at the first task that fits. With
    # OFFSET, PostgreSQL asks for each task in turn; else it joins, in an order and size that it guesses, often wrongly.
    each = [not_(one.offset(literal_column("0")).exists()) for one in unwanted]
    return select(task.c.id).where(_BATCH, condition, *each).order_by(task.c.priority.desc())


@cache
def _again_query(*, drafted: bool, skipped: bool) -> Select[Any, Any]:
    drafts = exists().where(draft.c.assignment_id == assignment.c.id)
    returning = assignment.c.state == _SKIPPED if skipped else false()
    let_go = assignment.c.state.in_(_LET_GO)
    return (
        select(task.c.id, assignment.c.id.label("assignment_id"))
        .join(assignment, assignment.c.task_id == task.c.id)
        .where(_MEMBER, and_(let_go, drafts) if drafted else or_(let_go, returning), _BATCH, _FREE)
        .order_by(assignment.c.ended_at)
        .limit(1)
        # Both rows, and never waiting: a late submit holds the assignment and waits for the task.
        .with_for_update(of=(task, assignment), key_share=True, skip_locked=True)
    )
