"""A project's folder: where its database is, its secrets, and how both come to be."""

import json
import tomllib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import URL, insert, make_url, select, update
from sqlalchemy.exc import ArgumentError

from plaudit.core.errors import ConfigError
from plaudit.core.files import atomic_write, explain_write_errors, make_folder
from plaudit.feedback import audit_log
from plaudit.feedback.people import throttle
from plaudit.feedback.people.accounts import create_invite
from plaudit.feedback.settings import ProjectSettings
from plaudit.feedback.store import clock, tables
from plaudit.feedback.store.database import Database, closing_on_error, without_password
from plaudit.feedback.store.migrate import check_empty, check_known, open_database, upgrade
from plaudit.feedback.store.secrets import FILE as SECRETS_FILE
from plaudit.feedback.store.secrets import Secrets, create_secrets, read_secrets

FILE = "plaudit.toml"
SQLITE_FILE = "plaudit.db"
MAX_NAME = 120


@dataclass(frozen=True, slots=True)
class Project:
    """An open project."""

    folder: Path
    name: str
    database: Database
    secrets: Secrets

    def settings(self) -> ProjectSettings:
        """The settings as they are now."""
        with self.database.read() as connection:
            return ProjectSettings.model_validate(connection.execute(select(tables.project.c.settings)).scalar_one())

    def save_settings(self, settings: ProjectSettings, *, by: str | None) -> None:
        """Replace the settings."""
        with self.database.write() as connection:
            values = settings.model_dump(mode="json")
            before = connection.execute(select(tables.project.c.settings)).scalar_one()
            connection.execute(update(tables.project).values(settings=values))
            changed = sorted(key for key in values if before.get(key) != values[key])
            audit_log.record(connection, "project.settings", "project", "1", {"changed": changed}, by=by)

    def address_key(self, address: str) -> str:
        """What stands for a network address in the limits on sign-in; the address itself is not stored."""
        return throttle.address_key(self.secrets.key("address"), address)

    def close(self) -> None:
        """Close the connections to the database."""
        self.database.close()


class Created(NamedTuple):
    """A new project, and the path at which its owner accepts the invitation."""

    project: Project
    invite_path: str


def create_project(folder: Path, name: str, database: str | None = None) -> Created:
    """Make a project in a new or empty folder.

    database: address of an empty PostgreSQL database; None makes a SQLite file in the folder. A password in the address
              goes to the secrets.

    Raises ConfigError if there is a project already, in the folder or the database, or the name is not fit.
    """
    if not (name.strip() and name.isprintable() and len(name) <= MAX_NAME):
        raise ConfigError(f"The project's name needs 1 to {MAX_NAME} visible characters.")
    url = make_url(database) if database else URL.create("sqlite", database=SQLITE_FILE)
    if (folder / FILE).exists():
        raise ConfigError(f"{folder} holds a project already. Serve it with: plaudit label {folder}")
    for taken in (SQLITE_FILE, SECRETS_FILE):
        if (folder / taken).exists():
            raise ConfigError(f"{folder / taken} is in the way. Choose another folder, or move it elsewhere.")
    make_folder(folder)
    if database is None:
        # Emails and hashes of passwords are in it; SQLite gives its other files the same mode.
        with explain_write_errors(folder / SQLITE_FILE):
            (folder / SQLITE_FILE).touch(mode=0o600)
    opened = Database(absolute(url, folder))
    with closing_on_error(opened):
        check_empty(opened)
        upgrade(opened)
        with opened.write() as connection:
            now = clock.now()
            settings = ProjectSettings.model_validate({}).model_dump(mode="json")
            connection.execute(insert(tables.project).values(one=1, name=name, settings=settings, created_at=now))
            audit_log.record(connection, "project.create", "project", "1", by=None)
            token = create_invite(connection, "owner", by=None, note="first owner")
        secrets = create_secrets(folder, database_password=str(url.password) if url.password else None)
        # Last: a folder with this file is a whole project.
        write_address(folder, url)
    return Created(Project(folder, name, opened, secrets), f"/invite/{token}")


def open_project(folder: Path) -> Project:
    """Open a project's folder.

    Raises ConfigError if it is none, its secrets are missing or unsafe, or its database has another version.
    """
    url, secrets = _address(folder)
    database = open_database(url)
    with closing_on_error(database), database.read() as connection:
        name = connection.scalar(select(tables.project.c.name))
        if name is None:
            raise ConfigError(f"The database of {folder} holds no project. Restore a backup, or make one elsewhere.")
    return Project(folder, name, database, secrets)


def upgrade_project(folder: Path) -> str:
    """Bring a project's database to the version of this code. Returns the version it had."""
    url, _ = _address(folder)
    database = Database(url)
    with closing(database):
        before = check_known(database)
        upgrade(database)
    return before


def _address(folder: Path) -> tuple[URL, Secrets]:
    """Where the project's database is, with its password, and the secrets."""
    url, secrets = read_address(folder), read_secrets(folder)
    if secrets.database_password is not None:
        url = url.set(password=secrets.database_password)
    return absolute(url, folder), secrets


def write_address(folder: Path, url: URL) -> None:
    """Note where the database is, without its password."""
    address = json.dumps(without_password(url).render_as_string(hide_password=False))  # a TOML string too
    text = f"# The address of the database. Its password, if it has one, is in secrets.json.\ndatabase = {address}\n"
    atomic_write(folder / FILE, text)


def read_address(folder: Path) -> URL:
    """Where the project's database is. Raises ConfigError if the folder is no project."""
    path = folder / FILE
    try:
        return make_url(tomllib.loads(path.read_text(encoding="utf-8"))["database"])
    except FileNotFoundError:
        raise ConfigError(f"{folder} is no project: {FILE} is missing. Make one with: plaudit init {folder}") from None
    except (OSError, KeyError, ValueError, ArgumentError) as error:
        raise ConfigError(
            f'{path} cannot be read ({error}). It holds one line: database = "sqlite:///plaudit.db"'
        ) from None


def absolute(url: URL, folder: Path) -> URL:
    """The address from anywhere: that of a SQLite file is relative to the project, so that the folder can move."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return url
    return url.set(database=str(folder.resolve() / url.database))
