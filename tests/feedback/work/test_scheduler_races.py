"""Many at once: threads on one server, and a server that is killed in the middle of its work."""

import multiprocessing
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

from sqlalchemy import select, text

import populate
from labeling import SECRET, ranked, start_batch, submitted
from plaudit.feedback.store.database import Database
from plaudit.feedback.store.tables import assignment, gold_key, submission, task
from plaudit.feedback.tasks.batches import BatchConfig
from plaudit.feedback.upkeep.invariants import invariants
from plaudit.feedback.work.assignment import claim, release

THREADS, TASKS, OVERLAP, GOLD = 10, 24, 3, 4


def test_many_labelers_at_once_give_exactly_what_was_asked_for(database: Database):
    with database.write() as c:
        start_batch(c, tasks=TASKS, gold=GOLD, config=BatchConfig(overlap=OVERLAP, gold_rate=0.1))
        people = [populate.add_member(c, f"P{number}") for number in range(THREADS)]
    failures: list[BaseException] = []
    receipts: list[str] = []

    def work(person: str, seed: int) -> None:
        generator = random.Random(seed)
        try:
            while True:
                with database.write() as c:
                    found = claim(c, person, secret=SECRET)
                if found is None:
                    return
                if generator.random() < 0.15:
                    with database.write() as c:
                        release(c, person, found.id)
                    continue
                twice = [threading.Thread(target=send, args=(person, found)) for _ in range(2)]
                for thread in twice:
                    thread.start()
                for thread in twice:
                    thread.join()
        except BaseException as error:
            failures.append(error)

    def send(person: str, found) -> None:
        try:
            with database.write() as c:
                receipt = submitted(c, person, found)
            if not receipt.replayed:
                receipts.append(receipt.submission_id)
        except BaseException as error:
            failures.append(error)

    run_all([threading.Thread(target=work, args=(person, seed)) for seed, person in enumerate(people)])
    assert failures == []
    with database.read() as c:
        assert invariants(c) == []
        ordinary = ~select(gold_key).where(gold_key.c.task_id == task.c.id).exists()
        assert (
            c.execute(select(task.c.submitted, task.c.status).where(ordinary)).all() == [(OVERLAP, "complete")] * TASKS
        )
        assert sorted(receipts) == sorted(c.execute(select(submission.c.id)).scalars())
        pairs = c.execute(select(assignment.c.task_id, assignment.c.member_id)).all()
        assert len(pairs) == len(set(pairs))


def test_one_labeler_in_many_tabs_gets_one_task(database: Database):
    with database.write() as c:
        start_batch(c, tasks=20)
        ada = populate.add_member(c, "Ada")
    found: list[str] = []

    def open_tab() -> None:
        with database.write() as c:
            claimed = claim(c, ada, secret=SECRET)
        assert claimed is not None
        found.append(claimed.id)

    run_all([threading.Thread(target=open_tab) for _ in range(8)])
    assert len(found) == 8
    assert len(set(found)) == 1


def test_more_labelers_than_slots_at_the_same_moment(database: Database):
    with database.write() as c:
        start_batch(c, tasks=2, config=BatchConfig(overlap=2))
        people = [populate.add_member(c, f"P{number}") for number in range(9)]
    gate = threading.Barrier(len(people))
    got: Counter[str] = Counter()

    def grab(person: str) -> None:
        gate.wait()
        with database.write() as c:
            found = claim(c, person, secret=SECRET)
        if found is not None:
            got[found.task_id] += 1

    run_all([threading.Thread(target=grab, args=(person,)) for person in people])
    assert sorted(got.values()) == [2, 2]
    with database.read() as c:
        assert invariants(c) == []


def run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a thread hangs"


# --- killed --------------------------------------------------------------------------------------------------------


def labeler_process(url: str, person: str, log: str) -> None:
    """Work for ever; write down each acknowledged submission."""
    database = Database(url)
    with Path(log).open("a", encoding="ascii", buffering=1) as file:
        while True:
            with database.write() as c:
                found = claim(c, person, secret=SECRET)
            if found is None:
                time.sleep(0.01)
                continue
            with database.write() as c:
                receipt = submitted(c, person, found, ranked(found, reverse=random.random() < 0.5))
            file.write(f"{receipt.submission_id}\n")


def test_killed_in_the_middle_nothing_acknowledged_is_lost_and_nothing_is_half_done(database: Database, tmp_path: Path):
    with database.write() as c:
        start_batch(c, tasks=400, gold=10, config=BatchConfig(overlap=3, gold_rate=0.1))
        people = [populate.add_member(c, f"P{number}") for number in range(2)]
    context = multiprocessing.get_context("spawn")
    generator = random.Random(7)
    url = database.url.render_as_string(hide_password=False)
    logs = [str(tmp_path / f"{number}.log") for number in range(len(people))]
    for log in logs:
        Path(log).touch()  # a process may be killed before its first line
    before = 0
    for _ in range(3):
        running = [
            context.Process(target=labeler_process, args=(url, person, log), daemon=True)
            for person, log in zip(people, logs, strict=True)
        ]
        for process in running:
            process.start()
        wait_for_lines(logs, before + 6)
        time.sleep(generator.random() * 0.1)
        for process in running:
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL
        wait_until_gone(database)
        with database.read() as c:
            assert invariants(c) == []
            stored = set(c.execute(select(submission.c.id)).scalars())
        acknowledged = [line for log in logs for line in Path(log).read_text("ascii").split()]
        assert len(acknowledged) == len(set(acknowledged))
        assert set(acknowledged) <= stored
        # At most one of each process was stored and its acknowledgement lost.
        assert len(stored) <= len(acknowledged) + len(people) * 3
        before = len(acknowledged)
    with database.write() as c:  # and work goes on
        found = claim(c, people[0], secret=SECRET)
        assert found is not None
        submitted(c, people[0], found)


def wait_for_lines(logs: list[str], lines: int) -> None:
    end = time.monotonic() + 120
    while sum(len(Path(log).read_text("ascii").split()) for log in logs) < lines:
        assert time.monotonic() < end, "the labelers do nothing"
        time.sleep(0.02)


def wait_until_gone(database: Database) -> None:
    """PostgreSQL notices a dead client when it next speaks to it; until then its transaction is open."""
    if database.is_sqlite:
        return
    end = time.monotonic() + 60
    while other_sessions(database):
        assert time.monotonic() < end, "sessions of the killed processes are still there"
        time.sleep(0.05)


def other_sessions(database: Database) -> int:
    own = database.engine.pool
    with database.read() as c:
        count = c.execute(text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")).scalar_one()
    return count - own.checkedin()  # type: ignore[attr-defined]
