"""A project in the middle of its work, for tests: batches made and run by the services themselves."""

import itertools
from typing import NamedTuple

from sqlalchemy import Connection, select

import populate
from plaudit.feedback.store.tables import guideline
from plaudit.feedback.tasks.answers import RankingAnswer
from plaudit.feedback.tasks.batches import BatchConfig, Kind, Purpose, create_batch, set_status
from plaudit.feedback.tasks.expected import Constraint, Expected
from plaudit.feedback.tasks.tasks import NewGold, NewTask, add_tasks
from plaudit.feedback.work.assignment import Assignment, claim
from plaudit.feedback.work.submissions import Receipt, submit

SECRET = b"a secret of tests"


class Work(NamedTuple):
    """A running batch, its tasks in the order they were added, and the responses of each."""

    batch_id: str
    prompts: list[str]
    responses: list[list[str]]


def start_batch(
    c: Connection,
    *,
    tasks: int = 1,
    gold: int = 0,
    responses: int = 3,
    config: BatchConfig | None = None,
    name: str = "First",
    kind: Kind = "ranking",
    purpose: Purpose = "work",
) -> Work:
    """A running batch with ordinary tasks and then gold ones, which expect the responses in the order of their ids."""
    if c.execute(select(guideline.c.id)).first() is None:
        populate.add_guideline(c)
    batch_id = create_batch(c, name, kind, purpose, config or BatchConfig(), by=None)
    origin = populate.add_origin(c, f"model of {name}")
    prompts: list[str] = []
    ids: list[list[str]] = []
    items: list[NewTask] = []
    for number in range(tasks + gold):
        prompt = populate.add_prompt(c, origin, f"{name}: question {number}?")
        texts = [f"{name}: answer {i} to {number}." for i in range(responses)] if kind == "ranking" else []
        found = sorted(populate.add_response(c, prompt, origin, text) for text in texts)
        items.append(
            NewTask(prompt, tuple(found), gold=NewGold(in_order(found), "Look closer.") if number >= tasks else None)
        )
        prompts.append(prompt)
        ids.append(found)
    add_tasks(c, batch_id, items)
    set_status(c, batch_id, "running", by=None)
    return Work(batch_id, prompts, ids)


def in_order(response_ids: list[str]) -> Expected:
    pairs = itertools.pairwise(response_ids)
    return Expected(constraints=tuple(Constraint(better=one, worse=other) for one, other in pairs))


def claimed(c: Connection, member_id: str, batch_id: str | None = None, purpose: Purpose = "work") -> Assignment:
    """A claim that must find something."""
    found = claim(c, member_id, secret=SECRET, batch_id=batch_id, purpose=purpose)
    assert found is not None, "nothing to do"
    return found


def ranked(assignment: Assignment, *, reverse: bool = False) -> RankingAnswer:
    """The responses ranked in the order of their ids, or the other way round."""
    names = sorted((shown.id for shown in assignment.responses), reverse=reverse)
    return RankingAnswer({name: place for place, name in enumerate(names, start=1)})


def submitted(c: Connection, member_id: str, assignment: Assignment, answer: RankingAnswer | None = None) -> Receipt:
    return submit(
        c,
        member_id,
        assignment.id,
        answer or ranked(assignment),
        idempotency_key=assignment.idempotency_key,
        lease_no=assignment.lease_no,
        active_ms=1000,
    )
