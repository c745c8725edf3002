"""Exactly once: whatever labelers, connections and the server do, each acknowledged submission is there, none twice.

Labelers work over HTTP against `plaudit label` as a process (see `labelers.py` for their tricks). It is killed at
random moments; while it is down, the database is compared with all that was acknowledged, and open leases run out.
"""

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from labelers import Acknowledged, Labeler, Memory, Tiers
from server_process import MortalServer
from sqlalchemy import ColumnElement, Connection, exists, select, update

import populate
from databases import Cluster
from labeling import in_order
from plaudit.core.records import user_prompt
from plaudit.core.seeding import derive
from plaudit.feedback.content import content
from plaudit.feedback.people.accounts import create_token
from plaudit.feedback.project import create_project, open_project
from plaudit.feedback.store import clock
from plaudit.feedback.store.tables import assignment, gold_key, ranking_entry, submission, task
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.tasks.batches import BatchConfig, create_batch, set_status
from plaudit.feedback.tasks.effective import is_effective
from plaudit.feedback.tasks.tasks import NewGold, NewTask, add_tasks
from plaudit.feedback.upkeep.verify import verify

OVERLAP, GOLD = 3, 4


class Ready(NamedTuple):
    """A project that waits for its labelers: member -> token."""

    folder: Path
    tokens: dict[str, str]


class Stored(NamedTuple):
    """A submission in the database, and whether it counts."""

    submission: Acknowledged
    task_id: str
    counts: bool


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Of an empty PostgreSQL database, or None for SQLite."""
    if request.param == "sqlite":
        yield None
        return
    cluster: Cluster = request.getfixturevalue("postgresql_cluster")
    name = cluster.create()
    yield cluster.url(name)
    cluster.drop(name)


def test_each_judgment_counts_once_though_the_server_dies(database_url: str | None, tmp_path: Path):
    ready = prepare(tmp_path / "project", database_url, labelers=8, tasks=16)
    run(ready, kills=1)


@pytest.mark.slow
def test_fifty_labelers_and_a_server_that_dies_often(database_url: str | None, tmp_path: Path):
    ready = prepare(tmp_path / "project", database_url, labelers=50, tasks=250)
    done = run(ready, kills=8)
    assert len(done) == 9, f"not every trick was played: {done}"


def prepare(folder: Path, database: str | None, *, labelers: int, tasks: int) -> Ready:
    project = create_project(folder, "Exactly once", database).project
    with closing(project), project.database.write() as c:
        people = [populate.add_member(c, f"Ada{number}") for number in range(labelers)]
        tokens = {one: create_token(c, one, "work", ["work"]) for one in people}
        add_batch(c, tasks)
    return Ready(folder, tokens)


def add_batch(c: Connection, tasks: int) -> None:
    guidelines.save_draft(c, "Rank the answers.", (), by=None)
    guidelines.publish(c, by=None)
    batch_id = create_batch(c, "Fruits", "ranking", "work", BatchConfig(overlap=OVERLAP, gold_rate=0.1), by=None)
    origin = content.add_origin(c, "model", "a model", {})
    texts = [f"Name fruit number {number}." for number in range(tasks + GOLD)]
    prompts = content.add_prompts(c, [content.NewPrompt(user_prompt(text), origin) for text in texts]).ids
    for number, prompt in enumerate(prompts):
        ids = tuple(content.add_responses(c, prompt, [f"Apple {number}", f"Pear {number}", f"Plum {number}"], origin))
        gold = NewGold(in_order(list(ids)), "Look closer.") if number >= tasks else None
        add_tasks(c, batch_id, [NewTask(prompt, ids, gold=gold)])
    set_status(c, batch_id, "running", by=None)


def run(ready: Ready, *, kills: int) -> dict[str, int]:
    """Let all work at once and kill the server meanwhile. Returns which tricks were played, how often."""
    memory, moments = Memory(), random.Random(derive(0, "kills", kills))
    with MortalServer(ready.folder) as server:
        threads = at_work(server, memory, ready)
        # By judgments and not by time, so that a slow machine has its server killed as often as a quick one.
        work = tasks_of(ready) * OVERLAP
        for moment in sorted(moments.randint(1, work * 3 // 4) for _ in range(kills)):
            wait_for(moment, memory, threads)
            time.sleep(moments.uniform(0, 0.1))
            assert "Traceback" not in server.kill()
            check(ready, memory, whole=False)
            run_out(ready, moments)
            server.start_again()
        finish(threads, memory)
        finish(at_work(server, memory, ready, careful=True), memory)  # what the last ones skipped or gave back
        assert "Traceback" not in server.kill()
    check(ready, memory, whole=True)
    return memory.done


def at_work(server: MortalServer, memory: Memory, ready: Ready, *, careful: bool = False) -> list[threading.Thread]:
    labelers = [Labeler(server, memory, *one, careful=careful) for one in ready.tokens.items()]
    threads = [threading.Thread(target=labeler.work, daemon=True) for labeler in labelers]
    for thread in threads:
        thread.start()
    return threads


def wait_for(judgments: int, memory: Memory, threads: list[threading.Thread]) -> None:
    while len(memory.kept) < judgments and any(thread.is_alive() for thread in threads):
        time.sleep(0.002)


def finish(threads: list[threading.Thread], memory: Memory) -> None:
    for thread in threads:
        thread.join()
    assert not memory.failures, memory.failures


def tasks_of(ready: Ready) -> int:
    with closing(open_project(ready.folder)) as project, project.database.read() as c:
        return len(c.execute(select(task.c.id)).all())


def run_out(ready: Ready, moments: random.Random) -> None:
    """The time of about half of the open leases is up."""
    with closing(open_project(ready.folder)) as project, project.database.write() as c:
        open_ones = c.execute(select(assignment.c.id).where(assignment.c.state == "leased")).scalars().all()
        late = [name for name in sorted(open_ones) if moments.random() < 0.5]
        past = clock.now() - 1
        c.execute(update(assignment).where(assignment.c.id.in_(late)).values(leased_at=past, lease_expires_at=past))


def check(ready: Ready, memory: Memory, *, whole: bool) -> None:
    """The database holds what was acknowledged; when all replies have come (`whole`), exactly that."""
    with memory.lock:
        kept, taken_back = dict(memory.kept), set(memory.taken_back)
    with closing(open_project(ready.folder)) as project:
        verdict = verify(project)
        assert verdict.is_sound, verdict.faults
        with project.database.read() as c:
            found = stored(c)
            unfinished = c.execute(select(task.c.id).where(task.c.status != "complete", ~is_gold())).all()
    for name, one in kept.items():
        assert name in found, f"an acknowledged submission is gone: {one}"
        assert found[name].submission == one
    assert not [name for name in taken_back if found[name].counts], "what was taken back counts"
    if whole:
        assert found.keys() == kept.keys(), "there are submissions that were never acknowledged"
        newest = {one.assignment_id: name for name, one in sorted(kept.items(), key=lambda item: item[1].revision)}
        counting = {name: one for name, one in found.items() if one.counts}
        assert counting.keys() == set(newest.values())
        people = Counter((one.submission.member_id, one.task_id) for one in counting.values())
        assert set(people.values()) == {1}, "somebody judged a task twice"
        assert not unfinished


def stored(c: Connection) -> dict[str, Stored]:
    """All submissions."""
    tiers: dict[str, Tiers] = defaultdict(dict)
    for row in c.execute(select(ranking_entry)):
        tiers[row.submission_id][row.response_id] = row.tier
    query = select(
        submission.c.id,
        submission.c.assignment_id,
        submission.c.revision,
        assignment.c.member_id,
        assignment.c.task_id,
        is_effective(submission).label("counts"),
    ).join(assignment, assignment.c.id == submission.c.assignment_id)
    return {
        row.id: Stored(
            Acknowledged(row.member_id, row.assignment_id, row.revision, tiers[row.id]), row.task_id, bool(row.counts)
        )
        for row in c.execute(query)
    }


def is_gold() -> ColumnElement[bool]:
    return exists().where(gold_key.c.task_id == task.c.id)
