"""Milliseconds of a claim and of a submit, with many labelers at once and many judgments stored.

    python benchmarks/labeling.py                                             # 50 labelers on SQLite
    python benchmarks/labeling.py --labelers 200 --stored 1000000 --database postgresql://user@host/empty

Each labeler is a thread that claims, thinks, submits, and thinks again; thinking times are exponential with a mean of
`--think` seconds. People need far longer for a ranking of four answers, so the default is a harder load than a team of
that size; `--think 0` shows how much one server does at most. Services are called directly; `labeling_http.py` does
the same over HTTP. The first seconds are not counted (`--warmup`): statements are compiled and connections opened then.

Prints one JSON line. Times are wall-clock, from asking for a connection to the end of the commit; `p99` comes with the
95 % interval of that quantile (order statistics). Run it on an idle machine.
"""

import argparse
import json
import math
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, insert

from plaudit.core.records import Message
from plaudit.core.seeding import derive
from plaudit.feedback.content.content import NewPrompt, add_origin, add_prompts, add_responses
from plaudit.feedback.people.members import add_member
from plaudit.feedback.store import clock, tables
from plaudit.feedback.store.database import Database
from plaudit.feedback.store.migrate import upgrade
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.tasks.answers import RankingAnswer
from plaudit.feedback.tasks.batches import BatchConfig, create_batch, set_status
from plaudit.feedback.tasks.expected import Constraint, Expected
from plaudit.feedback.tasks.tasks import NewGold, NewTask, add_tasks
from plaudit.feedback.upkeep.invariants import invariants
from plaudit.feedback.work.assignment import Assignment, claim
from plaudit.feedback.work.submissions import submit

SECRET = b"of the benchmark"
RESPONSES, OVERLAP, GOLD, PROMPTS_STORED = 4, 3, 50, 1_000
WORDS = "the model answers this question in about as many words as people usually read in one go " * 8


@dataclass
class Timing:
    """Seconds of each judgment that was begun after the warm-up, and how many there were with it."""

    claims: list[float] = field(default_factory=list[float])
    submits: list[float] = field(default_factory=list[float])
    judgments: int = 0


def main() -> None:
    options = arguments("Milliseconds of a claim and of a submit.").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(options.database or f"sqlite:///{Path(folder) / 'plaudit.db'}")
        upgrade(database)
        people = fill(database, options)
        timing = measure(database, people, options)
        with database.read() as c:
            faults = invariants(c) if options.verify else []
        database.close()
    print(json.dumps(figures(options, database, timing) | {"faults": faults}), flush=True)


def fill(database: Database, options: argparse.Namespace) -> list[str]:
    """A project with labelers, stored judgments, and open tasks. Returns the labelers."""
    with database.write() as c:
        guidelines.save_draft(c, "Rank the answers.", (), by=None)
        guidelines.publish(c, by=None)
        people = [add_member(c, kind="simulated").id for _ in range(options.labelers)]
        origin = add_origin(c, "import", "benchmark", {})
        texts = (f"Question {number}: {WORDS}?" for number in range(options.open + PROMPTS_STORED))
        prompts = add_prompts(c, (NewPrompt((Message("user", text),), origin, "train") for text in texts)).ids
        shown = {name: responses_of(c, name, origin) for name in prompts}
        store(c, people, {name: shown[name] for name in prompts[:PROMPTS_STORED]}, options.stored)
        batch_id = create_batch(c, "Open", "ranking", "work", BatchConfig(overlap=OVERLAP), by=None)
        add_tasks(c, batch_id, open_tasks(prompts[PROMPTS_STORED:], shown))
        set_status(c, batch_id, "running", by=None)
    if not database.is_sqlite:
        with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as plain:
            plain.exec_driver_sql("VACUUM ANALYZE")
    return people


def responses_of(c: Connection, prompt_id: str, origin: str) -> tuple[str, ...]:
    return tuple(add_responses(c, prompt_id, [f"Answer {number}. {WORDS}" for number in range(RESPONSES)], origin))


def open_tasks(prompts: Sequence[str], shown: dict[str, tuple[str, ...]]) -> Iterator[NewTask]:
    for number, name in enumerate(prompts):
        best, worst, *_ = shown[name]
        gold = NewGold(Expected(constraints=(Constraint(better=best, worse=worst),))) if number < GOLD else None
        yield NewTask(name, shown[name], gold=gold)


def store(c: Connection, people: Sequence[str], shown: dict[str, tuple[str, ...]], judgments: int) -> None:
    """Judgments of the past, straight into the tables."""
    batch_id = create_batch(c, "Stored", "ranking", "work", BatchConfig(overlap=OVERLAP), by=None)
    past = _past(c, batch_id, people, shown, judgments // OVERLAP)
    for chunk in iter(lambda: list(islice(past, 2_000)), []):
        rows: dict[Table, list[dict[str, Any]]] = {}
        for table, row in chain.from_iterable(chunk):
            rows.setdefault(table, []).append(row)
        for table in (one for one in tables.metadata.sorted_tables if one in rows):  # before those that refer to them
            insert_many(c, table, rows[table])
    set_status(c, batch_id, "closed", by=None)


def _past(
    c: Connection, batch_id: str, people: Sequence[str], shown: dict[str, tuple[str, ...]], tasks: int
) -> Iterator[list[tuple[Table, dict[str, Any]]]]:
    """The rows of each complete task with its judgments."""
    names, now, generator = list(shown), clock.now(), random.Random(derive(0, "stored"))
    guideline = guidelines.current(c).id
    for number in range(tasks):
        prompt, task = names[number % len(names)], tables.new_id()
        full = {"overlap": OVERLAP, "slots_taken": OVERLAP, "submitted": OVERLAP, "priority": 0.0, "agreement": 1.0}
        about = {"id": task, "batch_id": batch_id, "prompt_id": prompt, "status": "complete", "selection": {}}
        rows = [(tables.task, {**about, **full, "content_key": f"{number:064x}", "created_at": now})]
        for slot, response in enumerate(shown[prompt]):
            ids = {"task_id": task, "response_id": response, "prompt_id": prompt}
            rows.append((tables.task_response, {**ids, "slot": slot}))
        for person in generator.sample(people, OVERLAP):
            held, sent = tables.new_id(), tables.new_id()
            common = {"guideline_id": guideline, "idempotency_key": tables.new_id()}
            lease = {"lease_no": 1, "leased_at": now, "lease_expires_at": now, "ended_at": now}
            about = {"id": held, "task_id": task, "member_id": person, "state": "submitted"}
            rows.append((tables.assignment, {**about, **lease, **common, "shown": list(shown[prompt])}))
            about = {"id": sent, "assignment_id": held, "revision": 1, "request_sha256": "0" * 64}
            given = {"outcome": "answered", "active_ms": 20_000, "created_at": now}
            rows.append((tables.submission, {**about, **given, **common}))
            for tier, response in enumerate(shown[prompt], start=1):
                entry = {"submission_id": sent, "response_id": response, "tier": tier}
                rows.append((tables.ranking_entry, entry))
        yield rows


def insert_many(c: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of one set of columns, all constraints checked; on PostgreSQL by COPY, far quicker than INSERT."""
    if c.dialect.name == "sqlite":
        c.execute(insert(table), rows)
        return
    columns = ", ".join(f'"{name}"' for name in rows[0])
    with (
        c.connection.cursor() as cursor,
        cursor.copy(f'COPY "{table.name}" ({columns}) FROM STDIN') as copy,
    ):
        for row in rows:
            copy.write_row([json.dumps(v) if isinstance(v, (dict, list)) else v for v in row.values()])


def measure(database: Database, people: Sequence[str], options: argparse.Namespace) -> Timing:
    timing, lock, failures = Timing(), threading.Lock(), []
    start = time.perf_counter()
    counted = start + options.warmup
    end = counted + options.seconds

    def work(person: str, number: int) -> None:
        generator = random.Random(derive(0, "labeler", number))
        try:
            time.sleep(generator.uniform(0, options.think))
            while time.perf_counter() < end:
                asked = time.perf_counter()
                with database.write() as c:
                    found = claim(c, person, secret=SECRET)
                claimed = time.perf_counter() - asked
                if found is None:
                    return
                time.sleep(generator.expovariate(1 / options.think) if options.think else 0)
                answer = ranking(found, generator)
                began = time.perf_counter()
                with database.write() as c:
                    send(c, person, found, answer)
                submitted = time.perf_counter() - began
                with lock:
                    timing.judgments += 1
                    if asked >= counted:
                        timing.claims.append(claimed)
                        timing.submits.append(submitted)
                time.sleep(generator.expovariate(1 / options.think) if options.think else 0)
        except Exception as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(person, number)) for number, person in enumerate(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    return timing


def ranking(found: Assignment, generator: random.Random) -> RankingAnswer:
    return RankingAnswer({shown.id: generator.randint(1, RESPONSES) for shown in found.responses}, reason="Clearer.")


def send(c: Connection, person: str, found: Assignment, answer: RankingAnswer) -> None:
    key, lease = found.idempotency_key, found.lease_no
    submit(c, person, found.id, answer, idempotency_key=key, lease_no=lease, active_ms=1_000)


def figures(options: argparse.Namespace, database: Database, timing: Timing) -> dict[str, Any]:
    return {
        "database": database.url.get_backend_name(),
        "labelers": options.labelers,
        "think_s": options.think,
        "stored_judgments": options.stored,
        "open_tasks": options.open,
        "judgments_per_s": round(len(timing.submits) / options.seconds, 1),
        "claim_ms": quantiles(timing.claims),
        "submit_ms": quantiles(timing.submits),
    }


def quantiles(seconds: Sequence[float]) -> dict[str, Any]:
    """n, median, 99th percentile with its 95 % interval, and the longest."""
    ordered = sorted(1000 * value for value in seconds)
    n = len(ordered)
    half = 1.96 * math.sqrt(n * 0.99 * 0.01)
    low, high = (ordered[min(n - 1, max(0, math.ceil(0.99 * n + side) - 1))] for side in (-half, half))
    p50, p99 = ordered[n // 2], ordered[math.ceil(0.99 * n) - 1]
    values = {"p50": p50, "p99": p99, "p99_low": low, "p99_high": high, "max": ordered[-1]}
    return {"n": n} | {name: round(value, 1) for name, value in values.items()}


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--database", help="address of an empty database; a new SQLite file if left out")
    parser.add_argument("--labelers", type=int, default=50)
    parser.add_argument("--stored", type=int, default=0, help="judgments that are there already")
    parser.add_argument("--open", type=int, default=2_000, help="tasks to be given out")
    parser.add_argument("--think", type=float, default=2.0, help="mean seconds between requests of a labeler")
    parser.add_argument("--warmup", type=float, default=10.0, help="seconds of work before that are not counted")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to measure")
    parser.add_argument("--verify", action="store_true", help="check the invariants afterwards")
    return parser


if __name__ == "__main__":
    main()
