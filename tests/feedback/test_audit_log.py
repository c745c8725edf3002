import threading
from typing import Any

import pytest
from sqlalchemy import Connection, text

from plaudit.feedback import audit_log
from plaudit.feedback.audit_log import GENESIS, Verified
from plaudit.feedback.store.database import Database


def write(connection: Connection, number: int) -> None:
    detail: dict[str, Any] = {"changed": ["é", "b"], "n": number, "nested": {"z": None, "a": True}}
    audit_log.record(connection, "test.write", "thing", str(number), detail, by=None)


def without_triggers(database: Database, statement: str) -> None:
    """What somebody can do who owns the database."""
    with database.write() as connection:
        for operation in ("update", "delete"):
            on = "" if database.is_sqlite else " ON audit_event"
            connection.exec_driver_sql(f"DROP TRIGGER audit_event_no_{operation}{on}")
        assert connection.execute(text(statement)).rowcount == 1


def verify(database: Database) -> Verified:
    with database.read() as connection:
        return audit_log.verify(connection)


def test_an_untouched_log_is_whole(database: Database):
    assert verify(database) == Verified(0, GENESIS, None)
    for number in range(5):
        with database.write() as connection:
            write(connection, number)
            write(connection, number + 100)
    found = verify(database)
    with database.read() as connection:
        events = audit_log.events(connection, limit=4)
        assert (found.events, found.head, found.fault) == (10, audit_log.head(connection), None)
        assert [event.seq for event in events] == [10, 9, 8, 7]
        assert events[0].detail == {"changed": ["é", "b"], "n": 104, "nested": {"z": None, "a": True}}
        assert [event.seq for event in audit_log.events(connection, before=7, limit=2)] == [6, 5]


@pytest.mark.parametrize(
    ("statement", "events", "fault"),
    [
        ("UPDATE audit_event SET action = 'other' WHERE seq = 3", 2, "event 3 was changed"),
        ("UPDATE audit_event SET at = at + 1 WHERE seq = 1", 0, "event 1 was changed"),
        ("UPDATE audit_event SET detail = '{}' WHERE seq = 4", 3, "event 4 was changed"),
        ("DELETE FROM audit_event WHERE seq = 2", 1, "event 2 is missing"),
        ("DELETE FROM audit_event WHERE seq = 1", 0, "event 1 is missing"),
        ("UPDATE audit_event SET previous_hash = 'x' WHERE seq = 2", 1, "event 2 does not follow"),
    ],
)
def test_a_change_is_found_and_named(database: Database, statement: str, events: int, fault: str):
    with database.write() as connection:
        for number in range(5):
            write(connection, number)
    without_triggers(database, statement)
    found = verify(database)
    assert found.events == events
    assert (found.fault or "").startswith(fault)


def test_cutting_off_the_end_shows_in_the_head_that_was_kept(database: Database):
    with database.write() as connection:
        write(connection, 1)
        write(connection, 2)
    kept = verify(database).head
    without_triggers(database, "DELETE FROM audit_event WHERE seq = 2")
    assert verify(database).fault is None
    assert verify(database).head != kept


def test_many_at_once_make_one_chain(database: Database):
    def work(start: int) -> None:
        for number in range(start, start + 5):
            with database.write() as connection:
                write(connection, number)

    threads = [threading.Thread(target=work, args=(10 * n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (verify(database).events, verify(database).fault) == (30, None)


def test_fractions_are_refused(sqlite_database: Database):
    with pytest.raises(AssertionError, match="float"), sqlite_database.write() as connection:
        audit_log.record(connection, "a", "b", "c", {"share": [0.5]}, by=None)
