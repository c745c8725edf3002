"""What labelers judge by. Versions count up; a published one never changes; each judgment knows its own."""

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, func, insert, select, update

from plaudit.core.errors import DataError
from plaudit.feedback import audit_log
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store import clock, tables

MAX_BODY = 100_000
MAX_FLAGS = 20


@dataclass(frozen=True, slots=True)
class Flag:
    """What can be said of a single response. `key` is what data sets hold, `label` and `help` what people read."""

    key: str
    label: str
    help: str = ""


@dataclass(frozen=True, slots=True)
class Guideline:
    """One version of the guidelines. `body` is Markdown; times are milliseconds UTC."""

    id: str
    version: int
    body: str
    flags: tuple[Flag, ...]
    status: Literal["draft", "published", "retired"]
    created_at: int
    published_at: int | None


class Line(NamedTuple):
    """A line of a comparison: removed, added, or the same in both."""

    kind: Literal["removed", "added", "same"]
    text: str


def current(connection: Connection) -> Guideline:
    """The published guidelines.

    Raises FeedbackError "no_guideline" while none are published.
    """
    row = _newest(connection, "published")
    if row is None:
        raise FeedbackError("no_guideline", "No guidelines are published yet. An admin has to publish some first.")
    return row


def draft(connection: Connection) -> Guideline | None:
    """The next version, as far as it is written."""
    return _newest(connection, "draft")


def read(connection: Connection, guideline_id: str) -> Guideline:
    """One version. Raises FeedbackError "not_found"."""
    row = connection.execute(select(tables.guideline).where(tables.guideline.c.id == guideline_id)).first()
    if row is None:
        raise FeedbackError("not_found", "There are no such guidelines.", status=404)
    return _guideline(row)


def history(connection: Connection) -> list[Guideline]:
    """All versions, the newest first, a draft among them."""
    rows = connection.execute(select(tables.guideline).order_by(tables.guideline.c.version.desc()))
    return [_guideline(row) for row in rows]


def save_draft(connection: Connection, body: str, flags: Sequence[Flag], *, by: str | None) -> Guideline:
    """Write the next version; an unpublished draft is replaced.

    Raises DataError for an empty or overlong text, too many flags, or two flags of one key.
    """
    _check(body, flags)
    values: dict[str, Any] = {"body": body, "flags": [asdict(flag) for flag in flags], "sha256": _sha256(body, flags)}
    table = tables.guideline
    existing = draft(connection)
    if existing is None:
        last = connection.scalar(select(func.max(table.c.version))) or 0
        new = tables.new_id()
        connection.execute(
            insert(table).values(id=new, version=last + 1, status="draft", created_at=clock.now(), **values)
        )
    else:
        new = existing.id
        connection.execute(update(table).where(table.c.id == new).values(**values))
    audit_log.record(connection, "guideline.draft", "guideline", new, {"sha256": values["sha256"]}, by=by)
    return read(connection, new)


def publish(connection: Connection, *, by: str | None) -> Guideline:
    """Make the draft the guidelines from now on; the former ones retire.

    Raises FeedbackError "no_draft" when there is nothing to publish.
    """
    written = draft(connection)
    if written is None:
        raise FeedbackError("no_draft", "There is no draft to publish. Write one first.")
    table = tables.guideline
    connection.execute(update(table).where(table.c.status == "published").values(status="retired"))
    connection.execute(
        update(table).where(table.c.id == written.id).values(status="published", published_at=clock.now())
    )
    audit_log.record(connection, "guideline.publish", "guideline", written.id, {"version": written.version}, by=by)
    return read(connection, written.id)


def diff(old: Guideline, new: Guideline) -> list[Line]:
    """What changed between two versions, line by line; flags come after the text."""
    kinds: dict[str, Literal["removed", "added", "same"]] = {"-": "removed", "+": "added", " ": "same"}
    return [Line(kinds[line[0]], line[2:]) for line in difflib.ndiff(_lines(old), _lines(new)) if line[0] in kinds]


def sha256_of(guideline: Guideline) -> str:
    """The hash of a version's text and flags, as it was stored with it."""
    return _sha256(guideline.body, guideline.flags)


def _newest(connection: Connection, status: str) -> Guideline | None:
    table = tables.guideline
    row = connection.execute(
        select(table).where(table.c.status == status).order_by(table.c.version.desc()).limit(1)
    ).first()
    return None if row is None else _guideline(row)


def _guideline(row: Row[Any]) -> Guideline:
    flags = tuple(Flag(flag["key"], flag["label"], flag.get("help", "")) for flag in row.flags)
    return Guideline(row.id, row.version, row.body, flags, row.status, row.created_at, row.published_at)


def _check(body: str, flags: Sequence[Flag]) -> None:
    if not body.strip() or len(body) > MAX_BODY:
        raise DataError(f"Guidelines of {len(body)} characters; write 1 to {MAX_BODY}.")
    if "\0" in body:
        raise DataError("The guidelines hold the character NUL (U+0000). Remove it.")
    if len(flags) > MAX_FLAGS:
        raise DataError(f"{len(flags)} flags are more than anybody reads. Keep at most {MAX_FLAGS}.")
    keys = [flag.key for flag in flags]
    for flag in flags:
        if not (flag.key.isidentifier() and flag.key.isascii() and len(flag.key) <= 40):
            raise DataError(f"The flag key `{flag.key}` is no name. Write letters, digits and _, at most 40.")
        if not flag.label.strip() or keys.count(flag.key) > 1:
            raise DataError(f"The flag `{flag.key}` needs a label, and its key must be its own.")


def _sha256(body: str, flags: Sequence[Flag]) -> str:
    canonical = json.dumps([body, [asdict(flag) for flag in flags]], sort_keys=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _lines(guideline: Guideline) -> list[str]:
    return [*guideline.body.splitlines(), *(f"{flag.key}: {flag.label}. {flag.help}" for flag in guideline.flags)]
