"""Versions of the schema: which one a database has, and how it gets to that of this code."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, inspect

from plaudit.core.errors import ConfigError
from plaudit.feedback.store.database import Database, closing_on_error
from plaudit.feedback.store.triggers import install_triggers, missing_triggers

FOLDER = Path(__file__).parent / "migrations"


def upgrade(database: Database) -> None:
    """Bring a database, empty or of an older version, to the version of this code: all of it or nothing."""
    config = _config()
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        install_triggers(connection)


def open_database(url: str | URL) -> Database:
    """A project's database. Raises ConfigError if its tables are not there or of another version than this code."""
    database = Database(url)
    with closing_on_error(database):
        check_version(database)
    return database


def version_of(database: Database) -> str | None:
    """The version of a database; None if it holds no tables of ours."""
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


@cache
def newest_version() -> str:
    """The version of this code."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def check_empty(database: Database) -> None:
    """Raise ConfigError if the database holds tables already: they would be mixed up with ours."""
    with database.read() as connection:
        tables = inspect(connection).get_table_names()
    if tables:
        raise ConfigError(
            f"{database.url.render_as_string()} holds {len(tables)} tables already. "
            "Give the address of an empty database."
        )


def check_known(database: Database) -> str:
    """The version of a database. Raises ConfigError if it has none, or one that a newer Plaudit made."""
    found, shown = version_of(database), database.url.render_as_string()
    if found is None:
        raise ConfigError(f"There are no tables in {shown}. Make a project with: plaudit init DIR")
    if found not in {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}:
        raise ConfigError(
            f"{shown} has version {found}, which this Plaudit does not know: a newer one made it. "
            "Upgrade Plaudit: pip install --upgrade plaudit"
        )
    return found


def check_version(database: Database) -> None:
    """Raise ConfigError unless the database has the version of this code, with all its triggers."""
    found, shown = check_known(database), database.url.render_as_string()
    if found != newest_version():
        raise ConfigError(
            f"{shown} has version {found}, this Plaudit needs {newest_version()}. "
            "Make a copy of the database, then: plaudit migrate DIR"
        )
    with database.read() as connection:
        if missing := missing_triggers(connection):
            raise ConfigError(
                f"{shown} lacks the triggers {', '.join(missing)}, which protect judgments from changes. "
                "Find out who removed them; plaudit migrate DIR brings them back."
            )


def _config() -> AlembicConfig:
    config = AlembicConfig()
    # Alembic reads `%` in a value as the beginning of a placeholder.
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config
