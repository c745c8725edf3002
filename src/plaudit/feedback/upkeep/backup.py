"""Backups: one consistent state of the database while the site runs, and the way back.

A backup is a folder with the database, the files of snapshots, and a manifest. It holds no secrets: whoever steals it
cannot sign in, and cannot tell whose group answers are whose. So `secrets.json` is to be kept elsewhere, once; it never
changes.
"""

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL, Connection, delete, func, select, text, update

from plaudit.core.errors import ConfigError, DataError, RunError
from plaudit.core.files import atomic_folder, sha256_file, write_json
from plaudit.feedback import audit_log
from plaudit.feedback.data.snapshots import FOLDER as SNAPSHOTS
from plaudit.feedback.privacy import erasure
from plaudit.feedback.project import (
    FILE,
    SQLITE_FILE,
    Project,
    absolute,
    open_project,
    read_address,
    write_address,
)
from plaudit.feedback.store import clock, migrate, tables
from plaudit.feedback.store.database import Database, without_password
from plaudit.feedback.store.secrets import read_secrets

MANIFEST = "manifest.json"
SQLITE_COPY = "plaudit.db"
POSTGRESQL_DUMP = "plaudit.pgdump"


class Backup(NamedTuple):
    """What a backup holds."""

    folder: Path
    kind: str  # "sqlite" or "postgresql"
    version: str  # of the schema
    events: int  # in the audit log
    audit_head: str
    submissions: int
    sha256: str
    created_at: int


def make_backup(project: Project, folder: Path) -> Backup:
    """Write a backup into a new folder; people may go on working.

    Raises ConfigError if the folder exists, RunError if PostgreSQL's tools are missing or fail.
    """
    if folder.exists():
        raise ConfigError(f"{folder} exists. Name a new folder for the backup, for example with the date.")
    with atomic_folder(folder) as new:
        copy = new / (SQLITE_COPY if project.database.is_sqlite else POSTGRESQL_DUMP)
        copy.touch(mode=0o600)
        facts = _copy_sqlite(project, copy) if project.database.is_sqlite else _dump_postgresql(project, copy)
        if (project.folder / SNAPSHOTS).is_dir():
            shutil.copytree(project.folder / SNAPSHOTS, new / SNAPSHOTS, ignore=shutil.ignore_patterns(".*"))
        facts |= {"version": migrate.newest_version(), "sha256": sha256_file(copy), "created_at": clock.now()}
        write_json(new / MANIFEST, facts)
    return read_backup(folder)


def read_backup(folder: Path) -> Backup:
    """What a backup says about itself, checked against its bytes. Raises DataError if it was changed or is none."""
    try:
        facts: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        backup = Backup(folder, **facts)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder} is no backup of Plaudit ({error}). Give a folder made by: plaudit backup") from None
    if sha256_file(_copy(backup)) != backup.sha256:
        raise DataError(f"{_copy(backup)} is not the file that was written: its hash differs. Use another backup.")
    return backup


def restore(backup: Backup, folder: Path, database: str | None = None) -> tuple[Project, erasure.Erased]:
    """Restore a backup into a folder that holds `secrets.json` and no database. Returns what was erased once more.

    Erasures listed in the folder's `erasures.jsonl` are applied again. Everybody has to sign in anew, tokens and open
    invitations end: some may have been revoked since the backup was made.

    database: for PostgreSQL, the address of an empty database, unless `plaudit.toml` in the folder names it.

    Raises ConfigError if the folder is not fit, DataError if the restored database is damaged.
    """
    url = _target(backup, folder, database)
    secrets = read_secrets(folder)
    url = absolute(url.set(password=secrets.database_password), folder)
    # A SQLite file gets its name when everything is done; until then the folder is no project.
    work = url.set(database=f"{url.database}.restoring") if backup.kind == "sqlite" else url
    _load(backup, work)
    if (backup.folder / SNAPSHOTS).is_dir():
        shutil.copytree(backup.folder / SNAPSHOTS, folder / SNAPSHOTS, dirs_exist_ok=True)
    project = Project(folder, "", Database(work), secrets)
    with closing(project):
        migrate.upgrade(project.database)
        with project.database.read() as connection:
            facts = _facts(connection)
        for name, value in facts.items():
            if value != getattr(backup, name):
                raise DataError(f"Restored {name}: {value}; the backup says {getattr(backup, name)}. Use another one.")
        erased = erasure.erase_again(project)
        _close_doors(project)
    if backup.kind == "sqlite":
        os.replace(str(work.database), str(url.database))
    write_address(folder, read_address(folder) if (folder / FILE).exists() else _target(backup, folder, database))
    return open_project(folder), erased


def _copy_sqlite(project: Project, copy: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(str(project.database.url.database))) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    with closing(Database(URL.create("sqlite", database=str(copy)))) as database, database.read() as connection:
        return {"kind": "sqlite", **_facts(connection)}


def _dump_postgresql(project: Project, copy: Path) -> dict[str, Any]:
    with project.database.read() as connection:
        # The dump and our figures see the same state, whatever people do meanwhile.
        seen = connection.scalar(text("SELECT pg_export_snapshot()"))
        options = ["--format=custom", "--no-owner", "--no-acl", f"--snapshot={seen}", f"--file={copy}"]
        _run("pg_dump", options, project.database.url)
        return {"kind": "postgresql", **_facts(connection)}


def _facts(connection: Connection) -> dict[str, Any]:
    chain = audit_log.verify(connection)
    if chain.fault is not None:
        raise DataError(f"The audit log is broken: {chain.fault}. Find out who changed it: plaudit verify DIR")
    submissions = connection.scalar(select(func.count()).select_from(tables.submission))
    return {"events": chain.events, "audit_head": chain.head, "submissions": submissions}


def _target(backup: Backup, folder: Path, database: str | None) -> URL:
    """Where to restore to, without a password."""
    if (folder / FILE).exists():
        url = read_address(folder)
    elif database is not None:
        url = Database(database).url
    elif backup.kind == "sqlite":
        url = URL.create("sqlite", database=SQLITE_FILE)
    else:
        raise ConfigError("This is a backup of PostgreSQL. Give an empty database: database=postgresql+psycopg://…")
    if url.get_backend_name() != backup.kind:
        raise ConfigError(f"The backup is of {backup.kind}, the project's database of {url.get_backend_name()}.")
    if url.password is not None:
        raise ConfigError(
            f'Leave the password out of the address. Write it into {folder}/secrets.json: "database_password"'
        )
    return url


def _load(backup: Backup, url: URL) -> None:
    if backup.kind == "postgresql":
        with closing(Database(url)) as empty:
            migrate.check_empty(empty)
        options = ["--no-owner", "--no-acl", "--exit-on-error", "--single-transaction"]
        _run("pg_restore", [*options, str(_copy(backup))], url)
        return
    work = Path(str(url.database))
    target = work.with_suffix("")
    if target.exists():
        raise ConfigError(f"{target} exists, and nothing overwrites a database. Move it away, then restore again.")
    work.unlink(missing_ok=True)
    work.touch(mode=0o600)
    shutil.copyfile(_copy(backup), work)
    with closing(sqlite3.connect(work)) as connection:
        damage = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    if damage != ["ok"]:
        raise DataError(f"The database in {backup.folder} is damaged: {damage[0]}. Use another backup.")


def _close_doors(project: Project) -> None:
    with project.database.write() as connection:
        connection.execute(delete(tables.session))
        now = clock.now()
        token, invite = tables.api_token, tables.invite
        connection.execute(update(token).where(token.c.revoked_at.is_(None)).values(revoked_at=now))
        connection.execute(update(invite).where(invite.c.used_at.is_(None)).values(expires_at=now))
        audit_log.record(connection, "project.restore", "project", "1", by=None)


def _copy(backup: Backup) -> Path:
    return backup.folder / (SQLITE_COPY if backup.kind == "sqlite" else POSTGRESQL_DUMP)


def _run(tool: str, arguments: Sequence[str], url: URL) -> None:
    """Run one of PostgreSQL's programs on a database."""
    plain = without_password(url).set(drivername="postgresql").render_as_string(hide_password=False)
    # In the environment: other users of the machine can read a command line.
    environment: Mapping[str, str] = os.environ | ({"PGPASSWORD": str(url.password)} if url.password else {})
    done = subprocess.run(
        [_program(tool), f"--dbname={plain}", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RunError(f"{tool} failed: {done.stderr.strip()[-1000:]}")


def _program(tool: str) -> str:
    # Debian keeps each version apart; the newest can read all older servers.
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{tool}"), key=lambda path: float(path.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which(tool)
    if found is None:
        raise RunError(f"{tool} is not installed. Install PostgreSQL's client programs (Debian: postgresql-client).")
    return found
