"""What may never change, refused by the database itself: judgments, published guidelines, texts that were judged.

Triggers belong to the code and not to a migration: they are made anew after each upgrade, because changing a table on
SQLite means rebuilding it, which drops its triggers.
"""

from typing import NamedTuple

from sqlalchemy import Connection, Table

from plaudit.feedback.store import tables

ERASED = "[erased]"  # what stands where a person's demonstration stood, once it was erased
WORDS = {"adjudication": "note", "submission_event": "reason"}  # free text in append-only rows: it can be erased


class Rule(NamedTuple):
    """A refused change: of `table`, by `operation`, where `condition` holds (of OLD and NEW)."""

    name: str
    table: str
    operation: str
    condition: str | None
    message: str


def rules() -> list[Rule]:
    """Everything that is refused. The conditions are SQL that both databases read alike."""
    found: list[Rule] = []
    for table in tables.APPEND_ONLY:
        message = f"{table.name} is append-only: add a row instead"
        found += [
            Rule(f"{table.name}_no_update", table.name, "UPDATE", _beyond_words(table), message),
            Rule(f"{table.name}_no_delete", table.name, "DELETE", None, message),
        ]
    words = "words of a submission can only be erased"
    prompt, response = "a prompt never changes: import the new text", "a response never changes: import the new text"
    guideline = "a published guideline never changes: publish the next version"
    return [
        *found,
        Rule("submission_text_no_delete", "submission_text", "DELETE", None, words),
        Rule(
            "submission_text_no_update",
            "submission_text",
            "UPDATE",
            f"{_changed('submission_id', 'field')} OR NEW.body IS NOT NULL",
            words,
        ),
        Rule("guideline_no_delete", "guideline", "DELETE", "OLD.status <> 'draft'", guideline),
        Rule(
            "guideline_no_update",
            "guideline",
            "UPDATE",
            "OLD.status <> 'draft' AND "
            f"({_changed('id', 'version', 'body', 'flags', 'sha256')} OR NEW.status = 'draft')",
            guideline,
        ),
        Rule("prompt_no_update", "prompt", "UPDATE", _changed("id", "messages", "sha256", "origin_id"), prompt),
        Rule(
            "response_no_update",
            "response",
            "UPDATE",
            f"{_changed('id', 'prompt_id', 'origin_id')} OR ({_changed('body', 'sha256')} AND NEW.body <> '{ERASED}')",
            response,
        ),
    ]


def install_triggers(connection: Connection) -> None:
    """Make all triggers, in place of those of the same names."""
    if connection.dialect.name == "sqlite":
        for rule in rules():
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {rule.name}")
            connection.exec_driver_sql(_on_sqlite(rule))
        return
    connection.exec_driver_sql(_REFUSE)
    emptying = [
        Rule(f"{table}_no_truncate", table, "TRUNCATE", None, f"{table} cannot be emptied")
        for table in sorted({rule.table for rule in rules()})
    ]
    for rule in [*rules(), *emptying]:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {rule.name} ON {rule.table}")
        connection.exec_driver_sql(_on_postgresql(rule))


def missing_triggers(connection: Connection) -> list[str]:
    """Names of triggers that this database should have and has not."""
    listing = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        if connection.dialect.name == "sqlite"
        else "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'"
    )
    present = set(connection.exec_driver_sql(listing).scalars())
    return sorted({rule.name for rule in rules()} - present)


_REFUSE = """
CREATE OR REPLACE FUNCTION plaudit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = 'restrict_violation'; END $$
"""


def _on_sqlite(rule: Rule) -> str:
    when = f"WHEN {rule.condition} " if rule.condition else ""
    return (
        f"CREATE TRIGGER {rule.name} BEFORE {rule.operation} ON {rule.table} FOR EACH ROW {when}"
        f"BEGIN SELECT RAISE(ABORT, '{rule.message}'); END"
    )


def _on_postgresql(rule: Rule) -> str:
    each = "STATEMENT" if rule.operation == "TRUNCATE" else "ROW"
    when = f"WHEN ({rule.condition}) " if rule.condition else ""
    return (
        f"CREATE TRIGGER {rule.name} BEFORE {rule.operation} ON {rule.table} FOR EACH {each} {when}"
        f"EXECUTE FUNCTION plaudit_refuse('{rule.message}')"
    )


def _beyond_words(table: Table) -> str | None:
    """Whether an update does more than to erase the words that somebody wrote into this row."""
    words = WORDS.get(table.name)
    if words is None:
        return None
    others = [column for column in table.columns if column.name != words]
    same = _changed(*(column.name for column in others if not column.nullable))
    # A comparison with null is neither true nor false; what can be null here is an id.
    nullable = [f"COALESCE(NEW.{c.name}, '') <> COALESCE(OLD.{c.name}, '')" for c in others if c.nullable]
    return " OR ".join([same, *nullable, f"NEW.{words} <> ''"])


def _changed(*columns: str) -> str:
    return "(" + " OR ".join(f"NEW.{column} <> OLD.{column}" for column in columns) + ")"
