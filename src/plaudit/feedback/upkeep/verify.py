"""Is a project what it should be? All that can be checked about it, of which `store/invariants.py` is the core.

A fault is a sentence for people. None of these can come from using Plaudit; each means a mistake in Plaudit, a damaged
disk, or somebody who changed the database by other means.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, select, text

from plaudit.feedback import audit_log
from plaudit.feedback.content.content import prompt_sha256, read_prompt, text_sha256
from plaudit.feedback.data.snapshots import find_fault, list_snapshots
from plaudit.feedback.privacy.erasure import destroyed_snapshots
from plaudit.feedback.project import Project
from plaudit.feedback.store import tables
from plaudit.feedback.store.triggers import ERASED, missing_triggers
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.upkeep.invariants import invariants

MOST_FAULTS = 20  # of one check: more say nothing new

Check = Callable[[Connection, Project], Iterator[str]]


class Verdict(NamedTuple):
    """Faults by check (none: an empty list), and the head of the audit log, which is worth keeping elsewhere."""

    faults: dict[str, list[str]]
    audit_events: int
    audit_head: str

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not any(self.faults.values())


def verify(project: Project) -> Verdict:
    """Run all checks on one consistent state. Reads everything, so it takes a while on large projects."""
    with project.database.read() as connection:
        faults = {name: list(islice(check(connection, project), MOST_FAULTS)) for name, check in CHECKS.items()}
        chain = audit_log.verify(connection)
    return Verdict(faults, chain.events, chain.head)


def _database(connection: Connection, project: Project) -> Iterator[str]:
    if not project.database.is_sqlite:  # PostgreSQL checks its pages itself
        return
    for row in connection.execute(text("PRAGMA integrity_check")):
        if row[0] != "ok":
            yield str(row[0])
    for row in connection.execute(text("PRAGMA foreign_key_check")):
        yield f"a row of {row[0]} points to a row of {row[2]} that is not there"


def _triggers(connection: Connection, _project: Project) -> Iterator[str]:
    for name in missing_triggers(connection):
        yield f"the trigger {name} is missing"


def _audit_log(connection: Connection, _project: Project) -> Iterator[str]:
    fault = audit_log.verify(connection).fault
    if fault is not None:
        yield fault


def _judgments(connection: Connection, _project: Project) -> Iterator[str]:
    yield from invariants(connection)


def _texts(connection: Connection, _project: Project) -> Iterator[str]:
    for row in _stream(connection, tables.prompt):
        if prompt_sha256(read_prompt(row)) != row.sha256:
            yield f"prompt {row.id} is not the text that was stored"
    for row in _stream(connection, tables.response):
        if row.body != ERASED and text_sha256(row.body) != row.sha256:
            yield f"response {row.id} is not the text that was stored"
    for row in _stream(connection, tables.guideline):
        if guidelines.sha256_of(guidelines.read(connection, row.id)) != row.sha256:
            yield f"version {row.version} of the guidelines is not the text that was stored"


def _snapshots(connection: Connection, project: Project) -> Iterator[str]:
    destroyed = destroyed_snapshots(connection)
    for snapshot in list_snapshots(connection):
        fault = find_fault(snapshot, project.folder)
        if fault is not None and snapshot.id not in destroyed:
            yield fault


CHECKS: dict[str, Check] = {
    "database": _database,
    "triggers": _triggers,
    "audit log": _audit_log,
    "judgments": _judgments,
    "texts": _texts,
    "snapshots": _snapshots,
}


def _stream(connection: Connection, table: Table) -> Iterator[Any]:
    with connection.execute(select(table), execution_options={"yield_per": 1000}) as rows:
        yield from rows
