"""Engines and transactions: the same behaviour on SQLite and PostgreSQL.

A write sees and changes the newest state; a read sees one consistent state and can change nothing, on both databases.
"""

import json
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, OperationalError

from plaudit.core.errors import ConfigError
from plaudit.feedback.errors import FeedbackError

BUSY_SECONDS = 20.0  # that a transaction waits for another one before it gives up
_MODE = "plaudit_mode"


class Database:
    """A project's database.

    Raises ConfigError for an address that is neither SQLite nor PostgreSQL.
    """

    def __init__(self, url: str | URL) -> None:
        self.url = _normalised(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(self.url) if self.is_sqlite else _postgresql_engine(self.url)
        # SQLite lets writers wait by sleeping and trying again, which is unfair and slow under load; threads of one
        # process queue here instead. It also keeps two of our connections from writing and checkpointing at the same
        # moment, which corrupts the write-ahead log of SQLite before 3.51.3.
        self._writer = threading.Lock()

    @contextmanager
    def write(self) -> Generator[Connection]:
        """One transaction that may change things. It commits at the end and rolls back when the body raises.

        Raises FeedbackError "busy" when another writer keeps the database for more than BUSY_SECONDS.
        """
        try:
            with self._turn(), self.engine.connect() as plain:
                connection = plain.execution_options(**{_MODE: "write"})
                with connection.begin():
                    yield connection
        except OperationalError as error:
            if any(sign in str(error.orig) for sign in ("database is locked", "lock timeout", "deadlock detected")):
                raise _busy() from error
            raise

    @contextmanager
    def read(self) -> Generator[Connection]:
        """One consistent state of the database, for any number of queries. Changing something is an error."""
        with self.engine.connect() as plain:
            options: dict[str, Any] = {_MODE: "read"}
            if not self.is_sqlite:
                options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            connection = plain.execution_options(**options)
            with connection.begin():
                yield connection

    def forget_deleted(self) -> None:
        """Remove from the disk what was deleted before; else erased words linger in pages that nobody reads.

        SQLite overwrites it (`secure_delete`), except in the write-ahead log, which is emptied here. PostgreSQL frees
        its place and overwrites it with the next rows.
        """
        if self.is_sqlite:
            with self._turn(), closing(self.engine.raw_connection()) as raw:
                raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
        else:
            with self.engine.connect() as plain:
                connection = plain.execution_options(isolation_level="AUTOCOMMIT")
                connection.exec_driver_sql("VACUUM")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _turn(self) -> AbstractContextManager[None]:
        return _held(self._writer) if self.is_sqlite else nullcontext()


@contextmanager
def _held(lock: threading.Lock) -> Generator[None]:
    if not lock.acquire(timeout=BUSY_SECONDS):
        raise _busy()
    try:
        yield
    finally:
        lock.release()


def _busy() -> FeedbackError:
    return FeedbackError(
        "busy",
        f"Another program kept the database busy for {BUSY_SECONDS:g} seconds. Nothing was changed; try again.",
        status=503,
    )


@contextmanager
def closing_on_error(database: Database) -> Generator[None]:
    """Close a database that was opened here if the body finds that it is not fit."""
    try:
        yield
    except BaseException:
        database.close()
        raise


def without_password(url: URL) -> URL:
    """The address as it may be shown and stored. (`url.set(password=None)` would keep the password.)"""
    return URL.create(url.drivername, url.username, None, url.host, url.port, url.database, url.query)


def _normalised(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(
            "The database address cannot be read. Write sqlite:///plaudit.db or postgresql+psycopg://user@host/name."
        ) from None
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite")
    raise ConfigError(
        f"The database address {parsed.render_as_string()} names no SQLite file and no PostgreSQL database. "
        "Write sqlite:///plaudit.db or postgresql+psycopg://user@host/name."
    )


def _dump_json(value: Any) -> str:
    # One writing of a value on both databases. NaN is no JSON: PostgreSQL would refuse what SQLite keeps.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        json_serializer=_dump_json,
        pool_use_lifo=True,  # the connection used last has the newest pages in its cache
        connect_args={"timeout": BUSY_SECONDS},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.isolation_level = None  # else Python's driver begins transactions of its own, and too late
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",  # an acknowledged judgment survives a power cut
            "foreign_keys = ON",
            "recursive_triggers = ON",  # else INSERT OR REPLACE deletes rows past the triggers
            "secure_delete = ON",  # erased words are overwritten, not only unlinked
            "trusted_schema = OFF",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        reading = connection.get_execution_options().get(_MODE) == "read"
        connection.exec_driver_sql(f"PRAGMA query_only = {int(reading)}")
        # A write that began as a read and then meets another writer could only fail.
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _postgresql_engine(url: URL) -> Engine:
    try:
        return create_engine(
            url,
            json_serializer=_dump_json,
            pool_size=20,
            max_overflow=20,
            pool_use_lifo=True,  # a few connections do the work: their statements are prepared, their catalogs read
            pool_pre_ping=True,
            connect_args={"options": f"-c lock_timeout={int(BUSY_SECONDS * 1000)} -c timezone=UTC"},
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"PostgreSQL needs the package {error.name}. Install it: pip install 'plaudit[postgres]'."
        ) from None
