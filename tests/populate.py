"""Rows for tests: small, valid, straight into the tables, so that a test of one service needs no other service."""

import hashlib
from typing import Any

from sqlalchemy import Connection, insert

from plaudit.feedback.store import clock, tables


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _add(connection: Connection, table: Any, **values: Any) -> str:
    new = values.pop("id", None) or tables.new_id()
    connection.execute(insert(table).values(id=new, **values))
    return new


def add_member(
    connection: Connection, name: str = "Ada", *, role: str = "labeler", state: str = "qualified", kind: str = "person"
) -> str:
    return _add(
        connection,
        tables.member,
        kind=kind,
        role=role,
        state=state,
        pseudonym=f"L-{name}",
        email=f"{name.lower()}@example.org" if kind == "person" else None,
        display_name=name,
        preferences={},
        created_at=clock.now(),
    )


def add_guideline(
    connection: Connection, version: int = 1, *, status: str = "published", body: str = "Be kind."
) -> str:
    return _add(
        connection,
        tables.guideline,
        version=version,
        body=body,
        flags=[{"key": "false", "label": "False", "help": "States something untrue."}],
        sha256=digest(body),
        status=status,
        created_at=clock.now(),
        published_at=None if status == "draft" else clock.now(),
    )


def add_origin(connection: Connection, name: str = "model-a", *, kind: str = "model") -> str:
    return _add(
        connection,
        tables.origin,
        kind=kind,
        name=name,
        fingerprint=digest(f"{kind} {name}"),
        info={},
        created_at=clock.now(),
    )


def add_prompt(connection: Connection, origin_id: str, text: str = "Name a fruit.", *, split: str = "train") -> str:
    return _add(
        connection,
        tables.prompt,
        messages=[{"role": "user", "content": text}],
        sha256=digest(text),
        chars=len(text),
        origin_id=origin_id,
        split=split,
        tags=[],
        status="active",
        created_at=clock.now(),
    )


def add_response(connection: Connection, prompt_id: str, origin_id: str, text: str) -> str:
    return _add(
        connection,
        tables.response,
        prompt_id=prompt_id,
        body=text,
        sha256=digest(text),
        chars=len(text),
        origin_id=origin_id,
        details={},
        created_at=clock.now(),
    )


def add_batch(
    connection: Connection,
    guideline_id: str,
    name: str = "First",
    *,
    kind: str = "ranking",
    status: str = "running",
    purpose: str = "work",
    config: dict[str, Any] | None = None,
) -> str:
    return _add(
        connection,
        tables.batch,
        name=name,
        kind=kind,
        status=status,
        purpose=purpose,
        guideline_id=guideline_id,
        config=config or {},
        created_at=clock.now(),
    )


def add_task(
    connection: Connection, batch_id: str, prompt_id: str, response_ids: list[str], *, overlap: int = 3, **values: Any
) -> str:
    task_id = _add(
        connection,
        tables.task,
        batch_id=batch_id,
        prompt_id=prompt_id,
        status="open",
        overlap=overlap,
        selection={},
        content_key=digest(" ".join([prompt_id, *sorted(response_ids)])),
        created_at=clock.now(),
        **values,
    )
    for slot, response_id in enumerate(response_ids):
        connection.execute(
            insert(tables.task_response).values(
                task_id=task_id, response_id=response_id, prompt_id=prompt_id, slot=slot
            )
        )
    return task_id


def add_assignment(
    connection: Connection, task_id: str, member_id: str, guideline_id: str, shown: list[str], *, state: str = "leased"
) -> str:
    now = clock.now()
    return _add(
        connection,
        tables.assignment,
        task_id=task_id,
        member_id=member_id,
        state=state,
        leased_at=now,
        lease_expires_at=now + 30 * clock.MINUTE,
        shown=shown,
        idempotency_key=tables.new_id(),
        guideline_id=guideline_id,
        ended_at=None if state == "leased" else now,
    )


def add_submission(
    connection: Connection,
    assignment_id: str,
    guideline_id: str,
    tiers: dict[str, int],
    *,
    revision: int = 1,
    words: dict[str, str] | None = None,
) -> str:
    """A submission with its ranking (response id -> tier) and its words (field -> text)."""
    submission_id = _add(
        connection,
        tables.submission,
        assignment_id=assignment_id,
        revision=revision,
        idempotency_key=tables.new_id(),
        request_sha256=digest(str(tiers)),
        outcome="answered",
        guideline_id=guideline_id,
        created_at=clock.now(),
    )
    for response_id, tier in tiers.items():
        connection.execute(
            insert(tables.ranking_entry).values(submission_id=submission_id, response_id=response_id, tier=tier)
        )
    for field, body in (words or {}).items():
        connection.execute(insert(tables.submission_text).values(submission_id=submission_id, field=field, body=body))
    return submission_id


def add_ranking_task(
    connection: Connection,
    *,
    prompts: int = 1,
    responses: int = 3,
    overlap: int = 3,
    guideline_id: str | None = None,
    batch_id: str | None = None,
) -> tuple[str, list[str]]:
    """A running batch with tasks of several responses, and all that it needs. Returns the batch and its tasks."""
    guideline = guideline_id or add_guideline(connection)
    batch = batch_id or add_batch(connection, guideline)
    origin = add_origin(connection, f"model-{tables.new_id()[:6]}")
    tasks: list[str] = []
    for number in range(prompts):
        prompt = add_prompt(connection, origin, f"Question {number} {tables.new_id()[:6]}?")
        answers = [add_response(connection, prompt, origin, f"Answer {i} to {number}.") for i in range(responses)]
        tasks.append(add_task(connection, batch, prompt, answers, overlap=overlap))
    return batch, tasks
