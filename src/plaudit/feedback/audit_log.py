"""What was done to the project, by whom: a chain of hashes, so that a later change of the log is found.

It proves tampering to whoever kept an earlier head (`head`), and no more: who can rewrite the whole database can
rewrite the whole chain.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, insert, select, text

from plaudit.feedback.store import clock, tables

GENESIS = "0" * 64  # stands before the first event
_LOCK = 0x706C61756469  # any number, the same for all who record


class Event(NamedTuple):
    """One entry, as pages show it. `detail` holds ids, names of fields and numbers, no words of anybody."""

    seq: int
    at: int
    member_id: str | None
    action: str
    object_type: str
    object_id: str
    detail: Mapping[str, Any]
    hash: str


class Verified(NamedTuple):
    """How many events stand in an unbroken chain, its head, and what is wrong with the next one (None: nothing)."""

    events: int
    head: str
    fault: str | None


def record(
    connection: Connection,
    action: str,
    object_type: str,
    object_id: str,
    detail: Mapping[str, Any] | None = None,
    *,
    by: str | None,
) -> None:
    """Add an event. Do this last in a transaction: until its end, nobody else can record anything.

    by:     the member who acted; None for the command line.
    detail: text, whole numbers, true or false, and lists and mappings of these; no words of people.
    """
    if connection.dialect.name == "postgresql":  # on SQLite there is one writer anyway
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    event = tables.audit_event
    last = connection.execute(select(event.c.seq, event.c.hash).order_by(event.c.seq.desc()).limit(1)).first()
    values: dict[str, Any] = {
        "seq": last.seq + 1 if last else 1,
        "at": clock.now(),
        "member_id": by,
        "action": action,
        "object_type": object_type,
        "object_id": object_id,
        "detail": dict(detail or {}),
        "previous_hash": last.hash if last else GENESIS,
    }
    connection.execute(insert(event).values(**values, hash=_hash(values)))


def events(connection: Connection, *, before: int | None = None, limit: int = 100) -> list[Event]:
    """The newest events first, of those with a smaller number than `before`."""
    event = tables.audit_event
    query = select(event).order_by(event.c.seq.desc()).limit(limit)
    if before is not None:
        query = query.where(event.c.seq < before)
    return [
        Event(row.seq, row.at, row.member_id, row.action, row.object_type, row.object_id, row.detail, row.hash)
        for row in connection.execute(query)
    ]


def head(connection: Connection) -> str:
    """The hash of the last event. Whoever keeps it elsewhere can tell later that nothing before it was changed."""
    event = tables.audit_event
    return connection.scalar(select(event.c.hash).order_by(event.c.seq.desc()).limit(1)) or GENESIS


def verify(connection: Connection) -> Verified:
    """Walk the whole chain and stop at the first event that does not fit."""
    event = tables.audit_event
    previous, count = GENESIS, 0
    query = select(event).order_by(event.c.seq)
    with connection.execute(query, execution_options={"yield_per": 1000}) as rows:
        for row in rows:
            if row.seq != count + 1:
                return Verified(count, previous, f"event {count + 1} is missing")
            if row.previous_hash != previous:
                return Verified(count, previous, f"event {row.seq} does not follow the one before it")
            if row.hash != _hash(_values(row)):
                return Verified(count, previous, f"event {row.seq} was changed after it was written")
            previous, count = row.hash, count + 1
    return Verified(count, previous, None)


def _values(row: Row[Any]) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if name != "hash"}  # pyright: ignore[reportPrivateUsage]


def _hash(values: Mapping[str, Any]) -> str:
    assert not _has_float(values["detail"]), "PostgreSQL writes some floats anew, and the hash would no longer fit"
    canonical = json.dumps(dict(values), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _has_float(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_float(inner) for inner in value.values())  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return any(_has_float(inner) for inner in value)  # pyright: ignore[reportUnknownVariableType]
    return isinstance(value, float)
