import pytest
from sqlalchemy import Connection, insert, text

from plaudit.core.records import user_prompt
from plaudit.feedback import audit_log
from plaudit.feedback.content.content import NewPrompt, add_origin, add_prompts, add_responses
from plaudit.feedback.data.recipe import Recipe
from plaudit.feedback.privacy.erasure import DESTROY
from plaudit.feedback.project import Project
from plaudit.feedback.store import tables
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.upkeep.verify import CHECKS, verify
from populate import add_member, add_submission

RECIPE = Recipe.model_validate({"name": "people"}).model_dump(mode="json")


def fill(connection: Connection) -> None:
    """A judged task, through the services where they have a say in what is checked."""
    guidelines.save_draft(connection, "Be kind.", [], by=None)
    guideline = guidelines.publish(connection, by=None)
    origin = add_origin(connection, "model", "m", {})
    (prompt,) = add_prompts(connection, [NewPrompt(user_prompt("Name a fruit."), origin)]).ids
    answers = add_responses(connection, prompt, ["Apple.", "Pear.", "Plum."], origin)
    batch = tables.new_id()
    connection.execute(
        insert(tables.batch).values(
            id=batch,
            name="First",
            kind="ranking",
            status="running",
            purpose="work",
            guideline_id=guideline.id,
            config={},
            created_at=1,
        )
    )
    task, assignment = tables.new_id(), tables.new_id()
    connection.execute(
        insert(tables.task).values(
            id=task,
            batch_id=batch,
            prompt_id=prompt,
            status="complete",
            overlap=1,
            slots_taken=1,
            submitted=1,
            selection={},
            content_key="0" * 64,
            created_at=1,
        )
    )
    for slot, answer in enumerate(answers):
        values = {"task_id": task, "response_id": answer, "prompt_id": prompt, "slot": slot}
        connection.execute(insert(tables.task_response).values(values))
    connection.execute(
        insert(tables.assignment).values(
            id=assignment,
            task_id=task,
            member_id=add_member(connection),
            state="submitted",
            leased_at=1,
            lease_expires_at=2,
            ended_at=2,
            shown=answers,
            idempotency_key="k",
            guideline_id=guideline.id,
        )
    )
    add_submission(connection, assignment, guideline.id, dict(zip(answers, [1, 1, 2], strict=True)))


def test_a_project_in_use_is_sound(project: Project):
    with project.database.write() as connection:
        fill(connection)
    verdict = verify(project)
    assert verdict.is_sound
    assert set(verdict.faults) == set(CHECKS)


DAMAGE = {
    "judgments": "UPDATE ranking_entry SET tier = 3 WHERE tier = 2",
    "texts": "UPDATE response SET body = 'Quince.' WHERE body = 'Plum.'",
    "audit log": "UPDATE audit_event SET action = 'x' WHERE seq = 1",
}


@pytest.mark.parametrize("check", DAMAGE)
def test_damage_is_found_by_its_check(project: Project, check: str):
    with project.database.write() as connection:
        fill(connection)
        for table in ("ranking_entry", "response", "audit_event"):
            on = "" if project.database.is_sqlite else f" ON {table}"
            connection.exec_driver_sql(f"DROP TRIGGER {table}_no_update{on}")
        connection.execute(text(DAMAGE[check]))
    faults = verify(project).faults
    assert faults[check]
    assert faults["triggers"]
    assert {name for name, found in faults.items() if found} == {check, "triggers"}


def test_a_missing_snapshot_is_a_fault_unless_an_erasure_destroyed_it(project: Project):
    with project.database.write() as connection:
        snapshot = tables.new_id()
        values = {"kind": "rankings", "recipe": RECIPE, "manifest": {}, "content_sha256": "0" * 64}
        connection.execute(
            insert(tables.snapshot).values(id=snapshot, name="people", version=1, rows=1, created_at=1, **values)
        )
    (fault,) = verify(project).faults["snapshots"]
    assert "people-v1.jsonl is missing" in fault
    with project.database.write() as connection:
        audit_log.record(connection, DESTROY, "snapshot", snapshot, by=None)
    assert verify(project).is_sound
