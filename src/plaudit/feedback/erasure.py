"""Erasing what a person wrote, and their account. Judgments stay, under a pseudonym that leads to nobody.

Every erasure is also noted in `erasures.jsonl` beside the database: a backup from before it still holds the words, and
whoever restores that backup erases them again (`erase_again`). The list holds ids and no words.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, delete, or_, select, update

from plaudit.core.files import append_line, json_line, read_jsonl
from plaudit.feedback import audit_log, groups
from plaudit.feedback.accounts import BY_ACCOUNT, BY_PAIR
from plaudit.feedback.content import text_sha256
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.members import account_of, check_not_last_owner, end_sessions
from plaudit.feedback.store import clock, tables
from plaudit.feedback.store.project import Project
from plaudit.feedback.store.secrets import Secrets
from plaudit.feedback.store.triggers import ERASED

FILE = "erasures.jsonl"
What = Literal["words", "account", "groups"]


class Erased(NamedTuple):
    """What was erased: reasons and notes, demonstrations, drafts, group answers, accounts (0 or 1)."""

    texts: int = 0
    demonstrations: int = 0
    drafts: int = 0
    group_answers: int = 0
    accounts: int = 0

    def __add__(self, other: tuple[int, ...]) -> "Erased":  # pyright: ignore[reportIncompatibleMethodOverride]
        return Erased(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def erase(project: Project, member_id: str, what: set[What], *, by: str | None) -> Erased:
    """Erase parts of what the project holds about a member, for good.

    words:   what they wrote: demonstrations, reasons, notes of review, drafts. Rankings, flags and times stay.
    groups:  their answers to group questions.
    account: email, name and password; they are signed out, and nobody can sign in as them again.

    Raises FeedbackError "not_found" or "last_owner".
    """
    with project.database.write() as connection:
        erased = _erase(connection, project.secrets, member_id, what)
        audit_log.record(
            connection, "member.erase", "member", member_id, {"what": sorted(what), **erased._asdict()}, by=by
        )
        # Before the commit: whoever is listed without need is erased by a restore; the other way round they come back.
        append_line(project.folder / FILE, json_line({"member": member_id, "what": sorted(what), "at": clock.now()}))
    project.database.forget_deleted()
    return erased


def erase_again(project: Project) -> Erased:
    """Apply the project's list of erasures to a database that was restored from an older state."""
    total = Erased()
    with project.database.write() as connection:
        for member_id, what in _listed(project.folder):
            try:
                total += _erase(connection, project.secrets, member_id, what)
            except FeedbackError as error:  # somebody who joined after the backup was made
                if error.code != "not_found":
                    raise
        audit_log.record(connection, "project.erase_again", "project", "1", total._asdict(), by=None)
    project.database.forget_deleted()
    return total


def _listed(folder: Path) -> Iterator[tuple[str, set[What]]]:
    path = folder / FILE
    if path.exists():
        for row in read_jsonl(path):
            yield row["member"], set(row["what"])


def _erase(connection: Connection, secrets: Secrets, member_id: str, what: set[What]) -> Erased:
    row = connection.execute(select(tables.member).where(tables.member.c.id == member_id)).first()
    if row is None:
        raise FeedbackError("not_found", "There is no such member.", status=404)
    erased = Erased()
    if "words" in what:
        erased += _erase_words(connection, member_id)
    if "groups" in what:
        erased += Erased(group_answers=groups.forget_answers(connection, secrets, member_id))
    if "account" in what and row.state != "erased":
        if account_of(row).role == "owner":
            check_not_last_owner(connection, member_id)
        _erase_account(connection, member_id, row.email)
        erased += Erased(accounts=1)
    return erased


def _erase_words(connection: Connection, member_id: str) -> Erased:
    words, assignment, submission = tables.submission_text, tables.assignment, tables.submission
    mine = select(assignment.c.id).where(assignment.c.member_id == member_id)
    submitted = select(submission.c.id).where(submission.c.assignment_id.in_(mine))
    texts = connection.execute(
        update(words)
        .where(words.c.submission_id.in_(submitted), words.c.body.is_not(None))
        .values(body=None, erased_at=clock.now())
    ).rowcount
    for table, column in ((tables.adjudication, "note"), (tables.submission_event, "reason")):
        written = (table.c.member_id == member_id) & (table.c[column] != "")
        texts += connection.execute(update(table).where(written).values({column: ""})).rowcount
    drafts = connection.execute(delete(tables.draft).where(tables.draft.c.assignment_id.in_(mine))).rowcount
    return Erased(texts=texts, demonstrations=_erase_demonstrations(connection, member_id), drafts=drafts)


def _erase_demonstrations(connection: Connection, member_id: str) -> int:
    """Demonstrations that became responses which others judge: the judgments stay, of a text that is gone."""
    response, origin = tables.response, tables.origin
    theirs = select(origin.c.id).where(origin.c.kind == "person", origin.c.info["member_id"].as_string() == member_id)
    found = connection.scalars(
        select(response.c.id).where(response.c.origin_id.in_(theirs), response.c.body != ERASED)
    ).all()
    for response_id in found:
        blank: dict[str, Any] = {"body": ERASED, "chars": len(ERASED), "details": {}}
        # Not the hash of the text: whoever guesses the text could prove it with that.
        unguessable = text_sha256(f"{ERASED} {tables.new_id()}")
        connection.execute(update(response).where(response.c.id == response_id).values(sha256=unguessable, **blank))
    return len(found)


def _erase_account(connection: Connection, member_id: str, email: str | None) -> None:
    member, invite, throttle = tables.member, tables.invite, tables.throttle
    end_sessions(connection, member_id)
    connection.execute(delete(tables.api_token).where(tables.api_token.c.member_id == member_id))
    connection.execute(update(invite).where(invite.c.used_by == member_id).values(note=""))
    if email is not None:
        key = hashlib.sha256(email.encode()).hexdigest()[:40]
        tries = [throttle.c.bucket.startswith(f"{limit.name} {key}") for limit in (BY_ACCOUNT, BY_PAIR)]
        connection.execute(delete(throttle).where(or_(*tries)))
    blank: dict[str, Any] = {"email": None, "display_name": None, "password_hash": None, "preferences": {}}
    connection.execute(
        update(member).where(member.c.id == member_id).values(state="erased", erased_at=clock.now(), **blank)
    )
