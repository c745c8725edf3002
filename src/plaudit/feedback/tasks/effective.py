"""Which submissions count: the newest revision of each assignment, unless it was withdrawn or voided since."""

from typing import Literal

from sqlalchemy import ColumnElement, Connection, FromClause, exists, func, insert, not_, select

from plaudit.feedback.store import clock, tables

EventKind = Literal["withdrawn", "voided", "restored"]


def is_newest(submission: FromClause = tables.submission) -> ColumnElement[bool]:
    """The condition that a submission is the last of its assignment."""
    newer = tables.submission.alias()
    return ~exists().where(
        newer.c.assignment_id == submission.c.assignment_id, newer.c.revision > submission.c.revision
    )


def is_effective(submission: FromClause = tables.submission) -> ColumnElement[bool]:
    """The condition that a submission counts, for the `where` of any query on `submission` (or an alias of it).

    It counts if it is the highest revision of its assignment and its last event, if any, is "restored". An older
    revision never counts again: whoever withdraws an edit has said that the older answer was not meant either.
    """
    undone, later = tables.submission_event.alias(), tables.submission_event.alias()
    taken_back = exists().where(
        undone.c.submission_id == submission.c.id,
        undone.c.kind.in_(("withdrawn", "voided")),
        not_(exists().where(later.c.submission_id == undone.c.submission_id, later.c.created_at > undone.c.created_at)),
    )
    return is_newest(submission) & not_(taken_back)


def add_event(
    connection: Connection, submission_id: str, kind: EventKind, reason: str, *, member_id: str | None
) -> str:
    """Record that a submission was withdrawn (by its labeler), voided or restored. Returns the event's id."""
    event = tables.submission_event
    last = connection.scalar(select(func.max(event.c.created_at)).where(event.c.submission_id == submission_id))
    new = tables.new_id()
    connection.execute(
        insert(event).values(
            id=new,
            submission_id=submission_id,
            kind=kind,
            reason=reason,
            member_id=member_id,
            # Strictly increasing, else "the last event" would be undefined for two in the same millisecond.
            created_at=max(clock.now(), (last or 0) + 1),
        )
    )
    return new
