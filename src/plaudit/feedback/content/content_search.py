"""Finding prompts and answers: for people who look around, and for batches that are made of them."""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Text, cast, func, or_, select

from plaudit.core.records import Prompt
from plaudit.feedback.content.content import read_prompt
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store.tables import batch, member, origin, prompt, response, task

_START = 300


class Search(NamedTuple):
    """What is looked for. text: in prompts and responses. origin_id: of the prompt or of one of its responses."""

    text: str = ""
    origin_id: str = ""
    split: str = ""
    tag: str = ""


class Found(NamedTuple):
    """A prompt that was found; `start` of its last message."""

    prompt_id: str
    start: str
    turns: int
    split: str
    tags: tuple[str, ...]
    status: str
    origin: str
    responses: int


class Origin(NamedTuple):
    """Where texts come from."""

    id: str
    kind: str
    name: str
    info: dict[str, Any]
    prompts: int
    responses: int


class Answer(NamedTuple):
    """A response with where it comes from."""

    id: str
    body: str
    origin: str
    origin_kind: str
    info: dict[str, Any]
    details: dict[str, Any]
    created_at: int


class Asked(NamedTuple):
    """A task about a prompt."""

    task_id: str
    batch_id: str
    batch_name: str
    status: str
    submitted: int
    agreement: float | None


@dataclass(frozen=True, slots=True)
class Provenance:
    """A prompt with all that is known of it."""

    prompt_id: str
    prompt: Prompt
    sha256: str
    split: str
    tags: tuple[str, ...]
    status: str
    origin: str
    origin_kind: str
    info: dict[str, Any]
    created_at: int
    answers: tuple[Answer, ...]
    tasks: tuple[Asked, ...]


def search(c: Connection, wanted: Search, *, limit: int, offset: int = 0) -> list[Found]:
    """Prompts, the newest first."""
    responses = select(func.count()).where(response.c.prompt_id == prompt.c.id).correlate(prompt).scalar_subquery()
    query = (
        select(prompt, origin.c.name, responses.label("responses"))
        .join(origin, origin.c.id == prompt.c.origin_id)
        .where(*_conditions(wanted))
        .order_by(prompt.c.created_at.desc(), prompt.c.id)
        .limit(limit)
        .offset(offset)
    )
    found: list[Found] = []
    for row in c.execute(query):
        messages = read_prompt(row)
        start = messages[-1].content[:_START]
        found.append(
            Found(row.id, start, len(messages), row.split, tuple(row.tags), row.status, row.name, row.responses)
        )
    return found


def provenance(c: Connection, prompt_id: str) -> Provenance:
    """One prompt. Raises FeedbackError "not_found"."""
    row = c.execute(
        select(prompt, origin.c.name, origin.c.kind, origin.c.info)
        .join(origin, origin.c.id == prompt.c.origin_id)
        .where(prompt.c.id == prompt_id)
    ).first()
    if row is None:
        raise FeedbackError("not_found", "There is no such prompt.", status=404)
    answers = c.execute(
        select(response, origin.c.name, origin.c.kind, origin.c.info)
        .join(origin, origin.c.id == response.c.origin_id)
        .where(response.c.prompt_id == prompt_id)
        .order_by(origin.c.name, response.c.created_at, response.c.id)
    ).all()
    people = dict(c.execute(select(member.c.id, member.c.pseudonym)).all())
    tasks = c.execute(
        select(task.c.id, batch.c.id, batch.c.name, task.c.status, task.c.submitted, task.c.agreement)
        .join(batch, batch.c.id == task.c.batch_id)
        .where(task.c.prompt_id == prompt_id)
        .order_by(task.c.created_at, task.c.id)
    )
    return Provenance(
        row.id,
        read_prompt(row),
        row.sha256,
        row.split,
        tuple(row.tags),
        row.status,
        row.name,
        row.kind,
        _shown(row.info, people),
        row.created_at,
        tuple(
            Answer(one.id, one.body, one.name, one.kind, _shown(one.info, people), one.details, one.created_at)
            for one in answers
        ),
        tuple(Asked(*one) for one in tasks),
    )


def origins(c: Connection) -> list[Origin]:
    """All origins, the newest first."""
    prompts = select(func.count()).where(prompt.c.origin_id == origin.c.id).correlate(origin).scalar_subquery()
    responses = select(func.count()).where(response.c.origin_id == origin.c.id).correlate(origin).scalar_subquery()
    people = dict(c.execute(select(member.c.id, member.c.pseudonym)).all())
    query = select(origin, prompts.label("prompts"), responses.label("responses"))
    return [
        Origin(row.id, row.kind, row.name, _shown(row.info, people), row.prompts, row.responses)
        for row in c.execute(query.order_by(origin.c.created_at.desc(), origin.c.id))
    ]


def unasked(c: Connection, batch_id: str, wanted: Search, *, responses: int, limit: int) -> list[str]:
    """Ids of prompts in use, with so many responses or more, that a batch does not ask about yet; the oldest first."""
    answers = select(func.count()).where(response.c.prompt_id == prompt.c.id).correlate(prompt).scalar_subquery()
    asked = select(task.c.id).where(task.c.prompt_id == prompt.c.id, task.c.batch_id == batch_id).exists()
    query = (
        select(prompt.c.id)
        .where(*_conditions(wanted), prompt.c.status == "active", ~asked)
        .order_by(prompt.c.created_at, prompt.c.id)
        .limit(limit)
    )
    if responses:
        query = query.where(answers >= responses)
    return list(c.execute(query).scalars())


def _conditions(wanted: Search) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.text:
        said = select(response.c.id).where(
            response.c.prompt_id == prompt.c.id, response.c.body.icontains(wanted.text, autoescape=True)
        )
        # The column holds JSON: quotes and line ends of a message are written there in JSON's way.
        written = json.dumps(wanted.text, ensure_ascii=False)[1:-1]
        found.append(or_(cast(prompt.c.messages, Text).icontains(written, autoescape=True), said.exists()))
    if wanted.origin_id:
        answered = select(response.c.id).where(
            response.c.prompt_id == prompt.c.id, response.c.origin_id == wanted.origin_id
        )
        found.append(or_(prompt.c.origin_id == wanted.origin_id, answered.exists()))
    if wanted.split:
        found.append(prompt.c.split == wanted.split)
    if wanted.tag:
        tag = json.dumps(wanted.tag, ensure_ascii=False)
        found.append(cast(prompt.c.tags, Text).contains(tag, autoescape=True))
    return found


def _shown(info: dict[str, Any], people: dict[str, str]) -> dict[str, Any]:
    """An origin's information; a person in it under their pseudonym."""
    return {name: people.get(value, value) if name == "member_id" else value for name, value in info.items()}
