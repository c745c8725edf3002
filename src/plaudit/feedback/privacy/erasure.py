"""Erasing what a person wrote, and their account. Judgments stay, under a pseudonym that leads to nobody.

Every erasure is also noted in `erasures.jsonl` beside the database: a backup from before it still holds the words, and
whoever restores that backup erases them again (`erase_again`). The list holds ids and no words.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Select, delete, or_, select, update

from plaudit.core.files import append_line, json_line, read_jsonl
from plaudit.feedback import audit_log
from plaudit.feedback.content.content import text_sha256
from plaudit.feedback.content.importing import rehearse
from plaudit.feedback.data.snapshots import snapshot_path
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.people.accounts import BY_ACCOUNT, BY_PAIR
from plaudit.feedback.people.members import check_not_last_owner, end_sessions
from plaudit.feedback.privacy import groups
from plaudit.feedback.project import Project
from plaudit.feedback.store import clock, tables
from plaudit.feedback.store.triggers import ERASED

FILE = "erasures.jsonl"
DESTROY = "snapshot.destroy"
What = Literal["words", "account", "groups"]


class Erased(NamedTuple):
    """What was erased: reasons and notes, demonstrations, drafts, files of snapshots, group answers, accounts."""

    texts: int = 0
    demonstrations: int = 0
    drafts: int = 0
    snapshots: int = 0
    group_answers: int = 0
    accounts: int = 0

    def __add__(self, other: tuple[int, ...]) -> "Erased":  # pyright: ignore[reportIncompatibleMethodOverride]
        return Erased(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def erase(project: Project, member_id: str, what: set[What], *, by: str | None) -> Erased:
    """Erase parts of what the project holds about a member, for good.

    words:   what they wrote: demonstrations, reasons, notes of review, drafts, and the files of snapshots that hold a
             demonstration. Rankings, flags and times stay, and the record of those snapshots; make new ones of them.
    groups:  their answers to group questions.
    account: email, name and password; they are signed out, and nobody can sign in as them again.

    Raises FeedbackError "not_found" or "last_owner".
    """
    with project.database.write() as connection:
        erased, files = _erase(connection, project, member_id, what)
        audit_log.record(
            connection, "member.erase", "member", member_id, {"what": sorted(what), **erased._asdict()}, by=by
        )
        # Before the commit: whoever is listed without need is erased by a restore; the other way round they come back.
        append_line(project.folder / FILE, json_line({"member": member_id, "what": sorted(what), "at": clock.now()}))
    _finish(project, files)
    return erased


def would_erase(project: Project, member_id: str, what: set[What]) -> Erased:
    """What `erase` would erase now; nothing is changed. Raises like `erase`."""
    return rehearse(project.database, lambda connection: _erase(connection, project, member_id, what)[0])


def erase_again(project: Project) -> Erased:
    """Apply the project's list of erasures to a database that was restored from an older state."""
    total, files = Erased(), list[Path]()
    with project.database.write() as connection:
        for member_id, what in _listed(project.folder):
            try:
                erased, more = _erase(connection, project, member_id, what)
                total, files = total + erased, files + more
            except FeedbackError as error:  # somebody who joined after the backup was made
                if error.code != "not_found":
                    raise
        audit_log.record(connection, "project.erase_again", "project", "1", total._asdict(), by=None)
    _finish(project, files)
    return total


def destroyed_snapshots(connection: Connection) -> set[str]:
    """Ids of snapshots whose files were destroyed because they held a demonstration that was erased."""
    event = tables.audit_event
    return set(connection.scalars(select(event.c.object_id).where(event.c.action == DESTROY)))


def _finish(project: Project, files: list[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
    project.database.forget_deleted()


def _listed(folder: Path) -> Iterator[tuple[str, set[What]]]:
    path = folder / FILE
    if path.exists():
        for row in read_jsonl(path):
            yield row["member"], set(row["what"])


def _erase(connection: Connection, project: Project, member_id: str, what: set[What]) -> tuple[Erased, list[Path]]:
    """Erase in the database; returns what, and the files that are to be destroyed once that is certain."""
    row = connection.execute(select(tables.member).where(tables.member.c.id == member_id)).first()
    if row is None:
        raise FeedbackError("not_found", "There is no such member.", status=404)
    erased, files = Erased(), list[Path]()
    if "words" in what:
        erased += _erase_words(connection, member_id)
        files = _destroy_snapshots(connection, project.folder, member_id)
        erased += Erased(snapshots=len(files))
    if "groups" in what:
        erased += Erased(group_answers=groups.forget_answers(connection, project.secrets, member_id))
    if "account" in what and row.state != "erased":
        if row.role == "owner":
            check_not_last_owner(connection, member_id)
        _erase_account(connection, member_id, row.email)
        erased += Erased(accounts=1)
    return erased, files


def _destroy_snapshots(connection: Connection, folder: Path, member_id: str) -> list[Path]:
    """Note which snapshots hold a demonstration of this member, and return their files."""
    submission, assignment, words = tables.submission, tables.assignment, tables.submission_text
    written = (
        select(submission.c.id)
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .join(words, words.c.submission_id == submission.c.id)
        .where(assignment.c.member_id == member_id, words.c.field == "demonstration")
    )
    shown, response = tables.task_response, tables.response
    judged_by_others = (
        select(submission.c.id)
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .join(shown, shown.c.task_id == assignment.c.task_id)
        .join(response, response.c.id == shown.c.response_id)
        .where(response.c.origin_id.in_(_own_origins(member_id)))
    )
    source, snapshot = tables.snapshot_source, tables.snapshot
    holding = select(source.c.snapshot_id).where(
        or_(source.c.submission_id.in_(written), source.c.submission_id.in_(judged_by_others))
    )
    done = destroyed_snapshots(connection)
    files: list[Path] = []
    for row in connection.execute(select(snapshot).where(snapshot.c.id.in_(holding)).order_by(snapshot.c.id)).all():
        path = snapshot_path(folder, row.name, row.version)
        if row.id not in done:
            audit_log.record(connection, DESTROY, "snapshot", row.id, {"sha256": row.content_sha256}, by=None)
        if row.id not in done or path.exists():
            files.append(path)
    return files


def _own_origins(member_id: str) -> Select[tuple[str]]:
    origin = tables.origin
    return select(origin.c.id).where(origin.c.kind == "person", origin.c.info["member_id"].as_string() == member_id)


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
    response = tables.response
    theirs = response.c.origin_id.in_(_own_origins(member_id)) & (response.c.body != ERASED)
    found = connection.scalars(select(response.c.id).where(theirs)).all()
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
