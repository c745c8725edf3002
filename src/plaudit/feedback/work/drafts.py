"""Drafts: what was typed so far, saved while typing and kept until it is submitted."""

import json
from collections.abc import Iterator
from typing import Any, cast

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store import clock
from plaudit.feedback.store.tables import MAX_CHARS, draft
from plaudit.feedback.tasks.answers import Answer, as_json, check_words
from plaudit.feedback.work.assignment import locked

MAX_DRAFT_CHARS = 2 * MAX_CHARS


def save_draft(c: Connection, member_id: str, assignment_id: str, revision: int, payload: dict[str, Any]) -> int:
    """Save over draft number `revision` (0: there was none). Returns the new number.

    Works in every state of the assignment except voided: what was typed is kept also when the time is up. Saving the
    same again is the same as once: a reply can get lost, and the request is sent again.

    Raises FeedbackError "not_found"; "stale_draft" (409) if another page has saved since; "invalid_draft" (422).
    """
    row = locked(c, member_id, assignment_id)
    if row.state == "voided":
        raise FeedbackError("voided", "A reviewer has voided this work, so it cannot be changed.")
    _check(payload)
    kept = c.execute(select(draft.c.revision, draft.c.payload).where(draft.c.assignment_id == assignment_id)).first()
    before = None if kept is None else kept.revision
    if kept is not None and (kept.revision, kept.payload) == (revision + 1, payload):
        return kept.revision
    if (before or 0) != revision:
        raise FeedbackError(
            "stale_draft",
            "This task was changed on another page since. Reload to see it; copy what you typed here first.",
        )
    _write(c, assignment_id, before, payload)
    return revision + 1


def draft_of_answer(c: Connection, assignment_id: str, answer: Answer) -> None:
    """Make a submitted answer the draft again, after an undo."""
    before = c.execute(select(draft.c.revision).where(draft.c.assignment_id == assignment_id)).scalar()
    _write(c, assignment_id, before, as_json(answer))


def drop_draft(c: Connection, assignment_id: str) -> None:
    """Forget the draft: its words are submitted."""
    c.execute(_DROP, {"assignment_id": assignment_id})


_DROP = delete(draft).where(draft.c.assignment_id == bindparam("assignment_id"))


def _write(c: Connection, assignment_id: str, before: int | None, payload: dict[str, Any]) -> None:
    values = {"revision": (before or 0) + 1, "payload": payload, "updated_at": clock.now()}
    if before is None:
        c.execute(insert(draft).values(assignment_id=assignment_id, **values))
    else:
        c.execute(update(draft).where(draft.c.assignment_id == assignment_id).values(**values))


def _check(payload: dict[str, Any]) -> None:
    try:
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise FeedbackError("invalid_draft", "A draft holds numbers, texts and lists only.", status=422) from None
    if len(text) > MAX_DRAFT_CHARS:
        raise FeedbackError(
            "invalid_draft", f"The draft has {len(text)} characters, more than {MAX_DRAFT_CHARS}.", status=422
        )
    for words in _texts(payload):
        check_words(words, "draft")


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for name, inner in cast(dict[str, Any], value).items():
                yield name
                yield from _texts(inner)
        case list():
            for inner in cast(list[Any], value):
                yield from _texts(inner)
        case _:
            pass
