import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from plaudit.core.errors import ConfigError
from plaudit.feedback.store import clock, tables
from plaudit.feedback.store.database import Database
from plaudit.feedback.store.triggers import missing_triggers
from populate import add_assignment, add_guideline, add_member, add_ranking_task, add_submission


def count(database: Database, table: Any) -> int:
    with database.read() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def test_a_write_is_whole_or_nothing(database: Database):
    def fail() -> None:
        with database.write() as connection:
            add_member(connection)
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail()
    assert count(database, tables.member) == 0
    with database.write() as connection:
        add_member(connection)
    assert count(database, tables.member) == 1


def test_a_read_can_change_nothing(database: Database):
    with pytest.raises(DBAPIError, match=r"(?i)read-?only"), database.read() as connection:
        add_member(connection)
    with database.write() as connection:  # the same pooled connection writes again afterwards
        add_member(connection)
    assert count(database, tables.member) == 1


def test_a_read_sees_one_state_throughout(database: Database):
    query = select(func.count()).select_from(tables.member)
    with database.read() as connection:
        assert connection.scalar(query) == 0
        with database.write() as other:
            add_member(other)
        assert connection.scalar(query) == 0
    assert count(database, tables.member) == 1


def test_concurrent_writers_lose_no_update(database: Database):
    with database.write() as connection:
        connection.execute(insert(tables.throttle).values(bucket="b", window_start=0, hits=0))

    def work() -> None:
        for _ in range(10):
            with database.write() as connection:
                hits = connection.scalar(select(tables.throttle.c.hits).with_for_update()) or 0
                connection.execute(update(tables.throttle).values(hits=hits + 1))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert connection.scalar(select(tables.throttle.c.hits)) == 80


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "nonsense"])
def test_other_addresses_are_refused(url: str):
    with pytest.raises(ConfigError, match=r"database address"):
        Database(url)


def test_a_refused_address_does_not_show_its_password():
    with pytest.raises(ConfigError) as refused:
        Database("mysql://ada:tigers@host/name")
    assert "tigers" not in str(refused.value)


def test_the_clock_can_stand_still():
    with clock.at(5):
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(clock.now()))
        thread.start()
        thread.join()
        assert (clock.now(), seen) == (5, [5])
    assert clock.now() > 1_600_000_000_000


def labeled(connection: Any) -> str:
    """A submission with everything that hangs on it, so that every append-only table has a row."""
    member = add_member(connection)
    guideline = add_guideline(connection)
    _, (task,) = add_ranking_task(connection, guideline_id=guideline)
    shown = list(connection.scalars(select(tables.task_response.c.response_id)))
    assignment = add_assignment(connection, task, member, guideline, shown, state="submitted")
    submission = add_submission(
        connection, assignment, guideline, dict.fromkeys(shown, 1), words={"reason": "Because."}
    )
    ids = {"submission_id": submission}
    connection.execute(insert(tables.flag_entry).values(response_id=shown[0], flag="false", **ids))
    connection.execute(insert(tables.submission_event).values(kind="voided", reason="r", created_at=1, **ids))
    connection.execute(insert(tables.gold_result).values(score=1, passed=True, created_at=1, **ids))
    connection.execute(
        insert(tables.adjudication).values(
            task_id=task, member_id=member, tiers={}, category="taste", note="n", created_at=1
        )
    )
    snapshot = tables.new_id()
    connection.execute(
        insert(tables.snapshot).values(
            id=snapshot,
            name="n",
            version=1,
            kind="rankings",
            recipe={},
            rows=1,
            content_sha256="0" * 64,
            manifest={},
            created_at=1,
        )
    )
    connection.execute(insert(tables.snapshot_source).values(snapshot_id=snapshot, row_no=0, **ids))
    connection.execute(insert(tables.snapshot_use).values(snapshot_id=snapshot, run="r", stage="sft", created_at=1))
    connection.execute(
        insert(tables.audit_event).values(
            at=1, action="a", object_type="o", object_id="i", detail={}, previous_hash="", hash="0"
        )
    )
    return submission


@pytest.mark.parametrize("table", tables.APPEND_ONLY, ids=lambda table: table.name)
def test_what_was_judged_cannot_be_changed_or_deleted(database: Database, table: Any):
    with database.write() as connection:
        labeled(connection)
    column = table.primary_key.columns.values()[0]
    for statement in (update(table).values({column: column}), delete(table)):
        with pytest.raises(DBAPIError, match="append-only"), database.write() as connection:
            connection.execute(statement)
    if database.is_sqlite:
        replace = text(f"INSERT OR REPLACE INTO {table.name} SELECT * FROM {table.name}")
        with pytest.raises(DBAPIError, match="append-only"), database.write() as connection:
            connection.execute(replace)
    else:
        with pytest.raises(DBAPIError, match="cannot be emptied"), database.write() as connection:
            connection.execute(text(f"TRUNCATE {table.name} CASCADE"))
    assert count(database, table) >= 1


def test_words_can_be_erased_and_nothing_else(database: Database):
    words = tables.submission_text
    with database.write() as connection:
        labeled(connection)
    for statement in (update(words).values(body="Better."), delete(words)):
        with pytest.raises(DBAPIError, match="only be erased"), database.write() as connection:
            connection.execute(statement)
    with database.write() as connection:
        connection.execute(update(words).values(body=None, erased_at=1))
        assert connection.scalar(select(words.c.body)) is None


def test_reasons_of_events_and_notes_of_reviewers_can_be_erased_and_nothing_else(database: Database):
    with database.write() as connection:
        labeled(connection)
        connection.execute(update(tables.adjudication).values(note=""))
        connection.execute(update(tables.submission_event).values(reason=""))
    event, member = tables.submission_event, select(tables.member.c.id).scalar_subquery()
    for statement in (
        update(tables.adjudication).values(note="x"),
        update(tables.adjudication).values(note="", category="ambiguous"),
        update(event).values(reason="", kind="restored"),
        update(event).values(reason="", member_id=member),
    ):
        with pytest.raises(DBAPIError, match="append-only"), database.write() as connection:
            connection.execute(statement)


def test_a_published_guideline_and_texts_are_frozen(database: Database):
    with database.write() as connection:
        labeled(connection)
        draft = add_guideline(connection, 2, status="draft")
    refused: list[tuple[Any, str]] = [
        (update(tables.guideline).where(tables.guideline.c.version == 1).values(body="x"), "published guideline"),
        (update(tables.guideline).where(tables.guideline.c.version == 1).values(flags=[]), "published guideline"),
        (update(tables.guideline).where(tables.guideline.c.version == 1).values(status="draft"), "published guideline"),
        (delete(tables.guideline).where(tables.guideline.c.version == 1), "published guideline"),
        (update(tables.prompt).values(messages=[]), "prompt never changes"),
        (update(tables.response).values(body="x"), "response never changes"),
    ]
    for statement, message in refused:
        with pytest.raises(DBAPIError, match=message), database.write() as connection:
            connection.execute(statement)
    with database.write() as connection:
        connection.execute(update(tables.guideline).where(tables.guideline.c.id == draft).values(body="Better."))
        connection.execute(update(tables.guideline).where(tables.guideline.c.version == 1).values(status="retired"))
        connection.execute(update(tables.prompt).values(tags=["x"], status="retired"))


def test_all_triggers_are_there(database: Database):
    with database.write() as connection:
        assert missing_triggers(connection) == []
        on = "" if database.is_sqlite else " ON submission"
        connection.exec_driver_sql(f"DROP TRIGGER submission_no_update{on}")
        assert missing_triggers(connection) == ["submission_no_update"]


SUBMISSION = (
    "INSERT INTO submission "
    "(id, assignment_id, revision, idempotency_key, request_sha256, outcome, guideline_id, created_at)"
)


def second_judgment(connection: Any) -> None:
    connection.execute(
        text(
            "INSERT INTO assignment (id, task_id, member_id, state, lease_no, leased_at, lease_expires_at, shown, "
            "idempotency_key, guideline_id) SELECT 'x', task_id, member_id, 'leased', 1, 1, 1, '[]', 'k', guideline_id "
            "FROM assignment"
        )
    )


def foreign_response(connection: Any) -> None:
    batch = connection.scalar(select(tables.batch.c.id))
    guideline = connection.scalar(select(tables.guideline.c.id))
    _, (other,) = add_ranking_task(connection, guideline_id=guideline, batch_id=batch)
    connection.execute(
        text(
            "INSERT INTO task_response (task_id, response_id, prompt_id, slot) SELECT t.id, r.id, t.prompt_id, 8 "
            "FROM task t, response r WHERE t.id = :task AND r.prompt_id <> t.prompt_id"
        ),
        {"task": other},
    )


def run(statement: str) -> Callable[[Any], None]:
    return lambda connection: connection.execute(text(statement))


@pytest.mark.parametrize(
    "attempt",
    [
        second_judgment,
        foreign_response,
        run("UPDATE task SET slots_taken = overlap + 1"),
        run("UPDATE task SET submitted = slots_taken + 1"),
        run("UPDATE assignment SET state = 'leased'"),
        run("UPDATE member SET email = 'Ada@Example.org'"),
        run("UPDATE member SET state = 'erased'"),
        run("UPDATE member SET state = 'erased', erased_at = 1"),
        run("UPDATE member SET role = 'god'"),
        run("INSERT INTO project (one, name, settings, created_at) VALUES (2, 'x', '{}', 1)"),
        run(
            f"{SUBMISSION} SELECT 'x', assignment_id, 2, idempotency_key, '', outcome, guideline_id, 1 FROM submission"
        ),
        run(f"{SUBMISSION} SELECT 'x', assignment_id, 1, 'k', '', outcome, guideline_id, 1 FROM submission"),
        run("INSERT INTO ranking_entry (submission_id, response_id, tier) VALUES ('nobody', 'nothing', 1)"),
        run("UPDATE submission_text SET body = NULL"),
    ],
)
def test_the_database_itself_refuses_what_must_not_be(database: Database, attempt: Callable[[Any], None]):
    with database.write() as connection:
        labeled(connection)
    with pytest.raises(IntegrityError), database.write() as connection:
        attempt(connection)
