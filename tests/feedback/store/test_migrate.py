import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from databases import Cluster
from plaudit.core.errors import ConfigError
from plaudit.feedback.store import migrate, tables
from plaudit.feedback.store.database import Database
from plaudit.feedback.store.triggers import missing_triggers


@pytest.fixture(params=["sqlite", "postgresql"])
def blank(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without any table."""
    if request.param == "sqlite":
        with closing(Database(f"sqlite:///{tmp_path / 'blank.db'}")) as database:
            yield database
        return
    cluster: Cluster = request.getfixturevalue("postgresql_cluster")
    name = cluster.create()
    with closing(Database(cluster.url(name))) as database:
        yield database
    cluster.drop(name)


def described(database: Database) -> dict[str, Any]:
    """Everything the database says about its tables, in an order of its own."""
    found: dict[str, Any] = {}
    with database.read() as connection:
        inspector = inspect(connection)
        for table in inspector.get_table_names():
            if table == "alembic_version":
                continue
            parts = [
                *inspector.get_columns(table),
                *inspector.get_check_constraints(table),
                *inspector.get_unique_constraints(table),
                *inspector.get_foreign_keys(table),
                *inspector.get_indexes(table),
                inspector.get_pk_constraint(table),
            ]
            found[table] = sorted(json.dumps(part, sort_keys=True, default=str) for part in parts)
    return found


def test_the_versions_lead_to_the_tables_of_the_code(blank: Database):
    """If this fails, tables.py was changed: write the next version in feedback/store/migrations/versions."""
    migrate.upgrade(blank)
    with blank.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
        assert missing_triggers(connection) == []
    by_versions = described(blank)
    with blank.write() as connection:
        tables.metadata.drop_all(connection)
    with blank.write() as connection:
        tables.metadata.create_all(connection)
    assert set(by_versions) == set(tables.metadata.tables)
    # Alembic compares no check constraints; the databases do.
    assert by_versions == described(blank)


def test_upgrading_again_changes_nothing_and_brings_triggers_back(database: Database):
    before = described(database)
    with database.write() as connection:
        on = "" if database.is_sqlite else " ON submission"
        connection.exec_driver_sql(f"DROP TRIGGER submission_no_update{on}")
    with pytest.raises(ConfigError, match="lacks the triggers submission_no_update"):
        migrate.check_version(database)
    migrate.upgrade(database)
    migrate.check_version(database)
    assert described(database) == before


def test_other_versions_are_refused_with_the_remedy(database: Database, blank: Database):
    with pytest.raises(ConfigError, match="plaudit init"):
        migrate.check_version(blank)
    for version, remedy in (("0001", r"plaudit migrate"), ("9999", "Upgrade Plaudit")):
        with database.write() as connection:
            connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{version}'")
        with pytest.raises(ConfigError, match=remedy):
            migrate.check_version(database)


def test_an_upgrade_that_fails_leaves_nothing_behind(blank: Database, monkeypatch: pytest.MonkeyPatch):
    def fail(_connection: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(migrate, "install_triggers", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        migrate.upgrade(blank)
    assert migrate.version_of(blank) is None
    assert described(blank) == {}
