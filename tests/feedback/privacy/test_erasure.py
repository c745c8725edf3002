import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from plaudit.feedback import audit_log
from plaudit.feedback.content.content import add_origin
from plaudit.feedback.data.snapshots import snapshot_path
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.privacy.erasure import Erased, destroyed_snapshots, erase, erase_again
from plaudit.feedback.privacy.groups import answer
from plaudit.feedback.project import Project
from plaudit.feedback.settings import ProjectSettings
from plaudit.feedback.store import tables
from plaudit.feedback.tasks.effective import add_event
from populate import (
    add_assignment,
    add_guideline,
    add_member,
    add_ranking_task,
    add_response,
    add_submission,
)

ASKED = ProjectSettings.model_validate({"group_questions": [{"key": "age", "text": "Age?", "options": ["a", "b"]}]})
SECRET = "xylophone"  # stands in all that one person wrote, and nowhere else


def everything_of(connection: Connection, project: Project, name: str, word: str) -> str:
    """A member who left words everywhere; returns their id."""
    member = add_member(connection, name)
    guideline = connection.scalar(select(tables.guideline.c.id)) or add_guideline(connection)
    batch = connection.scalar(select(tables.batch.c.id))
    batch, (task,) = add_ranking_task(connection, guideline_id=guideline, batch_id=batch)
    shown = list(
        connection.scalars(select(tables.task_response.c.response_id).where(tables.task_response.c.task_id == task))
    )
    assignment = add_assignment(connection, task, member, guideline, shown, state="submitted")
    tiers = {response: place for place, response in enumerate(shown, start=1)}
    submission = add_submission(
        connection, assignment, guideline, tiers, words={"reason": f"{word} 1", "demonstration": f"{word} 2"}
    )
    connection.execute(
        insert(tables.draft).values(assignment_id=assignment, revision=1, payload={"reason": f"{word} 3"}, updated_at=1)
    )
    connection.execute(
        insert(tables.adjudication).values(
            task_id=task, member_id=member, tiers=tiers, category="taste", note=f"{word} 4", created_at=1
        )
    )
    add_event(connection, submission, "withdrawn", f"{word} 5", member_id=member)
    add_event(connection, submission, "restored", f"{word} 6", member_id=member)
    prompt = connection.scalar(select(tables.task.c.prompt_id).where(tables.task.c.id == task))
    origin = add_origin(connection, "person", f"L-{name}", {"member_id": member})
    add_response(connection, str(prompt), origin, f"{word} 7")
    answer(connection, project.secrets, ASKED, member, "age", "a")
    return member


def dump(connection: Connection) -> dict[str, list[str]]:
    tables_ = tables.metadata.sorted_tables
    return {
        table.name: sorted(json.dumps(list(row), default=str) for row in connection.execute(select(table)))
        for table in tables_
    }


def test_words_go_and_judgments_stay(project: Project):
    with project.database.write() as connection:
        ada = everything_of(connection, project, "Ada", SECRET)
        everything_of(connection, project, "Bea", "trombone")
        before = dump(connection)
    assert erase(project, ada, {"words", "groups"}, by=None) == Erased(5, 1, 1, 0, 1, 0)
    with project.database.read() as connection:
        after = dump(connection)
    assert SECRET not in json.dumps(after)
    for kept in ("submission", "ranking_entry", "assignment", "task", "prompt", "member"):
        assert before[kept] == after[kept]
    assert len(after["response"]) == len(before["response"])
    for word in range(1, 8):
        assert f"trombone {word}" in json.dumps(after)
    assert len(after["group_answer"]) == 1
    assert erase(project, ada, {"words", "groups"}, by=None) == Erased()  # again is no mistake


def test_an_erased_account_leaves_a_tombstone(project: Project):
    with project.database.write() as connection:
        owner = add_member(connection, "Olga", role="owner")
        ada = everything_of(connection, project, "Ada", SECRET)
        times = {"created_at": 1, "expires_at": 2}
        connection.execute(insert(tables.session).values(token_hash="h", member_id=ada, seen_at=1, **times))
        connection.execute(
            insert(tables.api_token).values(member_id=ada, name="Ada's", token_hash="t", scopes=[], created_at=1)
        )
        connection.execute(
            insert(tables.invite).values(token_hash="i", role="labeler", note="for Ada", used_by=ada, **times)
        )
    assert erase(project, ada, {"account"}, by=owner).accounts == 1
    with project.database.read() as connection:
        row = connection.execute(select(tables.member).where(tables.member.c.id == ada)).one()
        assert (row.state, row.email, row.display_name, row.password_hash) == ("erased", None, None, None)
        assert row.pseudonym == "L-Ada"
        assert "for Ada" not in json.dumps(dump(connection))
        assert connection.execute(select(tables.session)).all() == []
        assert connection.execute(select(tables.api_token)).all() == []
        event = audit_log.events(connection)[0]
        assert (event.action, event.member_id, event.object_id) == ("member.erase", owner, ada)
        assert audit_log.verify(connection).fault is None
    assert erase(project, ada, {"account"}, by=owner) == Erased()


def test_nobody_is_erased_by_mistake(project: Project):
    with project.database.write() as connection:
        owner = add_member(connection, "Olga", role="owner")
    for member, message in ((owner, "last owner"), ("nobody", "no such member")):
        with pytest.raises(FeedbackError, match=message):
            erase(project, member, {"account", "words"}, by=None)
    assert not (project.folder / "erasures.jsonl").exists()


def test_the_list_holds_ids_and_is_enough_to_erase_again(project: Project):
    with project.database.write() as connection:
        ada = everything_of(connection, project, "Ada", SECRET)
    (project.folder / "erasures.jsonl").write_text(
        json.dumps({"member": "joined-after-the-backup", "what": ["words"], "at": 1})
        + "\n"
        + json.dumps({"member": ada, "what": ["account", "words"], "at": 1})
        + "\n"
    )
    assert erase_again(project) == Erased(5, 1, 1, 0, 0, 1)
    with project.database.read() as connection:
        assert SECRET not in json.dumps(dump(connection))


def test_files_of_snapshots_that_hold_a_demonstration_are_destroyed(project: Project):
    with project.database.write() as connection:
        ada = everything_of(connection, project, "Ada", SECRET)
        bea = everything_of(connection, project, "Bea", "trombone")
        kept: dict[str, str] = {}
        for member in (ada, bea):
            source = connection.scalar(
                select(tables.submission.c.id).join(tables.assignment).where(tables.assignment.c.member_id == member)
            )
            snapshot = tables.new_id()
            values = {"kind": "demonstrations", "recipe": {}, "manifest": {}, "content_sha256": "0" * 64}
            connection.execute(
                insert(tables.snapshot).values(id=snapshot, name=member, version=1, rows=1, created_at=1, **values)
            )
            connection.execute(
                insert(tables.snapshot_source).values(snapshot_id=snapshot, row_no=1, submission_id=source)
            )
            path = snapshot_path(project.folder, member, 1)
            path.parent.mkdir(exist_ok=True)
            path.write_text("{}")
            kept[member] = snapshot
    assert erase(project, ada, {"words"}, by=None).snapshots == 1
    assert not snapshot_path(project.folder, ada, 1).exists()
    assert snapshot_path(project.folder, bea, 1).exists()
    with project.database.read() as connection:
        assert destroyed_snapshots(connection) == {kept[ada]}
        assert len(connection.execute(select(tables.snapshot)).all()) == 2  # the record stays
    assert erase(project, ada, {"words"}, by=None).snapshots == 0


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # PostgreSQL overwrites with the next rows, not at once
def test_the_bytes_are_gone_from_the_files(project: Project):
    path = Path(str(project.database.url.database))

    def files() -> bytes:
        return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))

    with project.database.write() as connection:
        ada = everything_of(connection, project, "Ada", SECRET)
    assert SECRET.encode() in files()
    erase(project, ada, {"words", "account"}, by=None)
    assert SECRET.encode() not in files()
    assert b"ada@example.org" not in files()


def columns_with_words() -> list[Any]:
    """Columns that hold text of unlimited length, or mappings."""
    return [
        column
        for table in tables.metadata.sorted_tables
        for column in table.columns
        if type(column.type).__name__ in ("Text", "JSON")
    ]


def test_every_column_for_free_text_was_thought_of():
    """A new one must be erased too, or be no person's words."""
    known = {
        "submission_text.body",
        "adjudication.note",
        "draft.payload",
        "response.body",
        "response.details",
        "member.preferences",  # erased
        "project.settings",
        "guideline.body",
        "guideline.flags",
        "api_token.scopes",
        "origin.info",
        "prompt.messages",
        "prompt.tags",
        "batch.config",
        "task.selection",
        "gold_key.expected",
        "gold_key.explanation",
        "assignment.shown",
        "adjudication.tiers",
        "snapshot.recipe",
        "snapshot.manifest",
        "audit_event.detail",  # the project's own
    }
    assert {str(column) for column in columns_with_words()} == known
