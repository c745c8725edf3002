"""Databases for tests: an empty project on SQLite and on a real PostgreSQL, which runs as long as the tests do.

A plugin of pytest, named in `tests/conftest.py`, so that all folders of tests share them.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
from argon2 import PasswordHasher
from sqlalchemy import NullPool, create_engine, insert

from plaudit.feedback.people import passwords
from plaudit.feedback.project import Project
from plaudit.feedback.settings import ProjectSettings
from plaudit.feedback.store import clock, tables
from plaudit.feedback.store.database import Database
from plaudit.feedback.store.migrate import upgrade
from plaudit.feedback.store.secrets import create_secrets

_numbers = count()


class Cluster(NamedTuple):
    """A running PostgreSQL that only a socket in `folder` leads to."""

    folder: Path
    binaries: Path

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def execute(self, statement: str) -> None:
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def create(self, *, template: str = "template0") -> str:
        """A fresh database; returns its name."""
        name = f"test_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8' STRATEGY file_copy")
        return name

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


@pytest.fixture(scope="session")
def postgresql_cluster() -> Iterator[Cluster]:
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: tests on it are skipped (Debian: apt install postgresql)")
    # Not below pytest's own folder: as root we run the server as `postgres`, who may not go in there.
    folder = Path(tempfile.mkdtemp(prefix="plaudit-pg-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user, user)
    data = folder / "data"
    who = {"user": user, "group": user, "extra_groups": []} if user else {}
    try:
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=folder,
            **who,
        )
        settings = ("fsync=off", "full_page_writes=off", "listen_addresses=", "max_connections=300", "jit=off")
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-k", folder, *(word for item in settings for word in ("-c", item))],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            **who,
        )
        try:
            _wait_for(server, binaries, folder)
            yield Cluster(folder, binaries)
        finally:
            server.send_signal(3)  # SIGQUIT: stop at once, nobody needs the data
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(server: "subprocess.Popen[bytes]", binaries: Path, folder: Path) -> None:
    end = time.monotonic() + 60
    while subprocess.run([binaries / "pg_isready", "-q", "-h", folder], check=False).returncode:
        assert server.poll() is None, "PostgreSQL ended while starting"
        assert time.monotonic() < end, "PostgreSQL did not start within a minute"
        time.sleep(0.1)


class Templates:
    """Empty projects to copy, each made at its first use: making the tables takes longer than most tests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sqlite: Path | None = None
        self._postgresql: str | None = None

    def sqlite(self) -> Path:
        if self._sqlite is None:
            path = self._folder / "template.db"
            with contextlib.closing(Database(f"sqlite:///{path}")) as database:
                upgrade(database)
            self._sqlite = path
        return self._sqlite

    def postgresql(self, cluster: Cluster) -> str:
        if self._postgresql is None:
            name = cluster.create()
            with contextlib.closing(Database(cluster.url(name))) as database:
                upgrade(database)
            self._postgresql = name
        return self._postgresql


@pytest.fixture(scope="session")
def schema_templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    return Templates(tmp_path_factory.mktemp("templates"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, schema_templates: Templates, tmp_path: Path) -> Iterator[Database]:
    """An empty project's database, on both kinds."""
    if request.param == "sqlite":
        path = tmp_path / "plaudit.db"
        shutil.copy(schema_templates.sqlite(), path)
        with contextlib.closing(Database(f"sqlite:///{path}")) as found:
            yield found
        return
    cluster: Cluster = request.getfixturevalue("postgresql_cluster")
    name = cluster.create(template=schema_templates.postgresql(cluster))
    try:
        with contextlib.closing(Database(cluster.url(name))) as found:
            yield found
    finally:
        cluster.drop(name)


@pytest.fixture
def sqlite_database(schema_templates: Templates, tmp_path: Path) -> Iterator[Database]:
    """An empty project on SQLite only, for what does not depend on the kind of database."""
    path = tmp_path / "plaudit.db"
    shutil.copy(schema_templates.sqlite(), path)
    with contextlib.closing(Database(f"sqlite:///{path}")) as found:
        yield found


@pytest.fixture
def project(database: Database, tmp_path: Path) -> Project:
    """An empty project, on both kinds of database."""
    folder = tmp_path / "project"
    folder.mkdir()
    settings = ProjectSettings.model_validate({}).model_dump(mode="json")
    with database.write() as connection:
        connection.execute(
            insert(tables.project).values(one=1, name="Fruits", settings=settings, created_at=clock.now())
        )
    return Project(folder, "Fruits", database, create_secrets(folder))


@pytest.fixture
def fast_passwords(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hashes that take no time; real ones take a quarter of a second each."""
    monkeypatch.setattr(passwords, "hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    passwords.nobodys_hash.cache_clear()
    yield
    passwords.nobodys_hash.cache_clear()
