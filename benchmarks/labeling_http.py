"""Milliseconds of a claim and of a submit over HTTP, against `plaudit label` as a process of its own.

    python benchmarks/labeling_http.py                                             # 50 labelers on SQLite
    python benchmarks/labeling_http.py --labelers 200 --think 10 --stored 1000000 --database postgresql://user@host/empty

Each labeler is a thread with a token of its own that claims, thinks, submits, and thinks again;
thinking times are exponential with a mean of `--think` seconds, so a labeler finishes a judgment every two of them.
People take half a minute and more for a ranking of four answers. `--think 0` shows how much one server does at most.

Prints one JSON line. Times are wall-clock, from connecting to the last byte of the reply; `p99` comes with the
95 % interval of that quantile. `server_cpu_ms` is the processor time of the server per request, claims and submits
together and warm-up included, without that of PostgreSQL: it says what the machine can do at most, also when others
are working on it.
"""

import argparse
import contextlib
import http.client
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import func, select

from labeling import RESPONSES, Timing, arguments, figures, fill
from plaudit.core.seeding import derive
from plaudit.feedback.people.accounts import create_token
from plaudit.feedback.project import FILE as PROJECT_FILE
from plaudit.feedback.project import Project, create_project, open_project
from plaudit.feedback.store.tables import member, submission
from plaudit.feedback.upkeep.invariants import invariants


def main() -> None:
    parser = arguments("Milliseconds of a claim and of a submit over HTTP.")
    parser.add_argument("--project", type=Path, help="folder to fill and to keep, or one kept before")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        folder = options.project or Path(parent) / "project"
        project = filled(folder, options)
        with project.database.write() as c:
            people = c.execute(select(member.c.id).where(member.c.kind == "simulated").order_by(member.c.id)).scalars()
            tokens = [create_token(c, person, "benchmark", ["work"]) for person in people.fetchmany(options.labelers)]
            stored = c.execute(select(func.count()).select_from(submission)).scalar_one()
        with served(folder) as (process, address):
            before = processor_seconds(process.pid)
            timing = measure(address, tokens, options)
            spent = processor_seconds(process.pid) - before
        with project.database.read() as c:
            faults = invariants(c) if options.verify else []
        project.close()
    found = {"over": "http", **figures(options, project.database, timing), "stored_judgments": stored}
    print(json.dumps(found | {"server_cpu_ms": round(500 * spent / timing.judgments, 2), "faults": faults}), flush=True)


def filled(folder: Path, options: argparse.Namespace) -> Project:
    """The project of an earlier run, or a new one."""
    if (folder / PROJECT_FILE).exists():
        return open_project(folder)
    project = create_project(folder, "Benchmark", options.database).project
    fill(project.database, options)
    return project


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`plaudit label` on a free port, and its address."""
    command = [sys.executable, "-c", "from plaudit.cli.app import main; main()", "label", str(folder), "port=0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert process.stderr is not None
        found = next(filter(None, (re.search(r"served at (http://\S+)", line) for line in process.stderr)), None)
        if found is None:
            sys.exit("the server did not start")
        yield process, found[1]
    finally:
        process.terminate()
        process.communicate()


def processor_seconds(pid: int) -> float:
    """Of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100  # user and system, in ticks of 10 ms


def measure(address: str, tokens: list[str], options: argparse.Namespace) -> Timing:
    timing, lock, failures = Timing(), threading.Lock(), []
    start = time.perf_counter()
    counted = start + options.warmup
    end = counted + options.seconds

    def work(token: str, number: int) -> None:
        generator = random.Random(derive(0, "labeler", number))
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        try:
            time.sleep(generator.uniform(0, 2 * options.think))
            while time.perf_counter() < end:
                asked = time.perf_counter()
                found, claimed = post(connection, token, "claims", {})
                if found is None:
                    return
                time.sleep(generator.expovariate(1 / options.think) if options.think else 0)
                tiers = {shown["id"]: generator.randint(1, RESPONSES) for shown in found["responses"]}
                sent = {"lease_no": found["lease_no"], "answer": {"tiers": tiers, "reason": "Clearer."}}
                key = {"Idempotency-Key": found["idempotency_key"]}
                _, submitted = post(connection, token, f"assignments/{found['id']}/submit", sent, key)
                with lock:
                    timing.judgments += 1
                    if asked >= counted:
                        timing.claims.append(claimed)
                        timing.submits.append(submitted)
                time.sleep(generator.expovariate(1 / options.think) if options.think else 0)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=one) for one in zip(tokens, range(len(tokens)), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    return timing


def post(
    connection: http.client.HTTPConnection,
    token: str,
    path: str,
    body: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
) -> tuple[Any, float]:
    """The reply (None where there is nothing to do) and how many seconds it took."""
    head = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **(headers or {})}
    content = json.dumps(body)
    connection.close()  # after a few seconds of thinking the server has closed it anyway; the next request opens it
    began = time.perf_counter()
    connection.request("POST", f"/api/v1/{path}", content, head)
    reply = connection.getresponse()
    text = reply.read()
    seconds = time.perf_counter() - began
    assert reply.status in (200, 204), text
    return (json.loads(text) if text else None), seconds


if __name__ == "__main__":
    main()
