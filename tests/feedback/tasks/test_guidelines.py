import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from plaudit.core.errors import DataError
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store.database import Database
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.tasks.guidelines import Flag, Line, diff, publish, save_draft

FALSE = Flag("false", "False", "States something untrue.")


def test_from_draft_to_published_to_retired(database: Database):
    with database.write() as connection:
        with pytest.raises(FeedbackError, match="No guidelines"):
            guidelines.current(connection)
        with pytest.raises(FeedbackError, match="no draft"):
            publish(connection, by=None)
        first = save_draft(connection, "Be kind.", [], by=None)
        assert save_draft(connection, "Be kind.\nBe true.", [FALSE], by=None).id == first.id
        published = publish(connection, by=None)
        assert (published.version, published.status, published.flags) == (1, "published", (FALSE,))
        second = save_draft(connection, "Be true.", [FALSE], by=None)
        assert (second.version, guidelines.current(connection).version) == (2, 1)  # not yet
        publish(connection, by=None)
        assert guidelines.current(connection).body == "Be true."
        assert [(one.version, one.status) for one in guidelines.history(connection)] == [
            (2, "published"),
            (1, "retired"),
        ]
        assert guidelines.draft(connection) is None
        assert guidelines.read(connection, first.id).body == "Be kind.\nBe true."


def test_published_words_stay_even_for_raw_sql(database: Database):
    with database.write() as connection:
        save_draft(connection, "Be kind.", [], by=None)
        publish(connection, by=None)
    with pytest.raises(DBAPIError, match="never changes"), database.write() as connection:
        connection.execute(text("UPDATE guideline SET body = 'Be fast.'"))


def test_a_diff_shows_text_and_flags(sqlite_database: Database):
    with sqlite_database.write() as connection:
        save_draft(connection, "Be kind.\nBe brief.", [], by=None)
        old = publish(connection, by=None)
        new = save_draft(connection, "Be kind.\nBe true.", [FALSE], by=None)
    assert diff(old, new) == [
        Line("same", "Be kind."),
        Line("removed", "Be brief."),
        Line("added", "Be true."),
        Line("added", "false: False. States something untrue."),
    ]
    assert [line.kind for line in diff(old, old)] == ["same", "same"]


@pytest.mark.parametrize(
    ("body", "flags"),
    [
        (" ", []),
        ("x" * 100_001, []),
        ("a\0b", []),
        ("x", [FALSE, FALSE]),
        ("x", [Flag("no name", "Label")]),
        ("x", [Flag("name", " ")]),
        ("x", [Flag(f"f{n}", "Label") for n in range(21)]),
    ],
)
def test_what_is_refused(sqlite_database: Database, body: str, flags: list[Flag]):
    with pytest.raises(DataError), sqlite_database.write() as connection:
        save_draft(connection, body, flags, by=None)
