"""Labelers that work over HTTP as real ones do on bad days: they send twice, leave before the answer, come too late.

Each remembers what the server has acknowledged. Whatever happens to the server, that is what its database must hold.
"""

import json
import random
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest
from server_process import MortalServer

from plaudit.core.seeding import derive
from plaudit.feedback.sdk import ApiError, Client, Task

PATIENCE_S: Final = 0.1  # the longest wait before something is sent again
TRIES: Final = 3_000

Tiers = dict[str, int]


@dataclass(frozen=True)
class Acknowledged:
    """A submission that the server said it has."""

    member_id: str
    assignment_id: str
    revision: int
    tiers: Tiers


@dataclass
class Memory:
    """What the server has said to all labelers together."""

    kept: dict[str, Acknowledged] = field(default_factory=dict[str, Acknowledged])  # by id of the submission
    taken_back: set[str] = field(default_factory=set[str])
    first: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])  # assignment, key -> reply
    news: dict[str, int] = field(default_factory=dict[str, int])  # replies that said "done now" and not "done before"
    done: dict[str, int] = field(default_factory=dict[str, int])  # how often each way of misbehaving was gone through
    failures: list[BaseException] = field(default_factory=list[BaseException])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, key: tuple[str, str], receipt: dict[str, Any], found: Acknowledged) -> None:
        """A reply to a submit. One request is one submission, however often it is sent."""
        name = receipt["submission_id"]
        with self.lock:
            assert self.first.setdefault(key, name) == name, "the same request made two submissions"
            assert self.kept.setdefault(name, found) == found, "two replies about one submission differ"
            self.news[name] = self.news.get(name, 0) + (not receipt["replayed"])
            assert self.news[name] <= 1, "a submission was made twice"

    def take_back(self, name: str) -> None:
        with self.lock:
            self.taken_back.add(name)

    def count(self, way: str) -> None:
        with self.lock:
            self.done[way] = self.done.get(way, 0) + 1


class Labeler:
    """One labeler. `careful`: without any of the tricks."""

    def __init__(
        self, server: MortalServer, memory: Memory, member_id: str, token: str, *, careful: bool = False
    ) -> None:
        self.server = server
        self.memory = memory
        self.member_id = member_id
        self.token = token
        self.random = random.Random(derive(0, "labeler", member_id, careful))
        self.careful = careful
        self.since = server.lives  # the server's life in which the task at hand was claimed
        self.tricks: list[Callable[[Task], None]] = [
            self.sends_twice,
            self.leaves_before_the_reply,
            self.breaks_off,
            self.gives_back_and_submits_the_old_page,
            self.goes_away,
            self.edits,
            self.takes_back,
            self.skips,
            self.has_two_tabs,
        ]

    def work(self) -> None:
        """Until nothing is left for this labeler."""
        try:
            # The raw client and the pool are for what the SDK refuses to do.
            with (
                Client(self.server.address, self.token, tries=TRIES, sleep=self.wait) as self.sdk,
                httpx.Client(base_url=f"{self.server.address}/api/v1/", headers=self.headers, verify=False) as self.raw,
                ThreadPoolExecutor(2) as self.pool,
            ):
                while task := self.claim():
                    if self.careful or self.random.random() < 0.3:
                        self.submit(task)
                    else:
                        trick = self.random.choice(self.tricks)
                        trick(task)
                        self.memory.count(trick.__name__)
        except BaseException as error:
            self.memory.failures.append(error)
            raise

    # --- good manners

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def claim(self) -> Task | None:
        self.since = self.server.lives
        return self.sdk.claim()

    def wait(self, seconds: float) -> None:
        time.sleep(min(seconds, PATIENCE_S) * self.random.uniform(0.5, 1.5))

    def judge(self, task: Task) -> Tiers:
        """Any ranking, with ties and without gaps."""
        drawn = {one["id"]: self.random.randint(1, 3) for one in task["responses"]}
        places = {rank: place for place, rank in enumerate(sorted(set(drawn.values())), start=1)}
        return {name: places[rank] for name, rank in drawn.items()}

    def submit(self, task: Task, tiers: Tiers | None = None) -> str:
        """Submit until there is a reply. Returns the id of the submission."""
        tiers = tiers or self.judge(task)
        return self.note(task, tiers, self.sdk.submit(task, {"tiers": tiers}, active_ms=1_000))

    def note(self, task: Task, tiers: Tiers, receipt: dict[str, Any]) -> str:
        found = Acknowledged(self.member_id, task["id"], receipt["revision"], tiers)
        self.memory.keep((task["id"], task["idempotency_key"]), receipt, found)
        return receipt["submission_id"]

    # --- tricks

    def sends_twice(self, task: Task) -> None:
        """The same submit from two connections at the same moment, and once more."""
        tiers = self.judge(task)
        for reply in self.both(f"assignments/{task['id']}/submit", body(task, tiers), key(task)):
            self.note(task, tiers, reply)
        self.submit(task, tiers)

    def has_two_tabs(self, task: Task) -> None:
        """Two claims at the same moment find the task that is open already."""
        found = {reply["id"] for reply in self.both("claims", {"purpose": "work"}, {})}
        if self.server.lives == self.since:  # else its time may be up
            assert found <= {task["id"]}, "two tabs got different tasks"
        self.while_it_lasts(lambda: self.submit(task))

    def leaves_before_the_reply(self, task: Task) -> None:
        """The connection closes when all is sent, or while it is answered; then it is sent again."""
        tiers = self.judge(task)
        self.send_and_leave(task, tiers, share=1.0)
        self.submit(task, tiers)

    def breaks_off(self, task: Task) -> None:
        """The connection closes in the middle of a request, which must do nothing."""
        other = self.judge(task)
        self.send_and_leave(task, other, share=self.random.uniform(0.1, 0.95))
        self.submit(task)

    def gives_back_and_submits_the_old_page(self, task: Task) -> None:
        """A page from before the task was given out anew must not act for the new one."""
        self.sdk.save_draft(
            task, {"tiers": self.judge(task)}, revision=task["draft"]["revision"] if task["draft"] else 0
        )
        self.while_it_lasts(lambda: self.sdk.release(task))
        again = self.claim()
        if again is None or again["id"] != task["id"]:  # somebody else took its last place
            self.while_it_lasts(lambda: self.submit(task))
        else:
            assert again["lease_no"] > task["lease_no"]
            self.is_refused("lease_lost", lambda: self.sdk.submit(task, {"tiers": self.judge(task)}))
            self.is_refused("lease_lost", lambda: self.sdk.heartbeat(task))
        if again is not None:
            self.submit(again)

    def goes_away(self, task: Task) -> None:
        """Leave the page open while the time runs out, then submit it: the work is kept."""
        end = time.monotonic() + 1
        while self.server.lives == self.since and time.monotonic() < end:
            time.sleep(0.05)
        self.submit(task)

    def edits(self, task: Task) -> None:
        """Submit, think again, and submit the next revision, with the key of the first one refused."""
        first = self.judge(task)
        self.submit(task, first)
        self.submit(self.sdk.read(task["id"]))
        if any(first[name] != 1 for name in first):
            level = dict.fromkeys(first, 1)
            self.is_refused("key_reused", lambda: self.sdk.submit(task, {"tiers": level}))

    def takes_back(self, task: Task) -> None:
        """Submit, undo twice, and submit something else."""
        name = self.submit(task)
        assert self.sdk.undo(name) == task["id"] == self.sdk.undo(name)
        self.memory.take_back(name)
        self.submit(self.sdk.read(task["id"]))

    def skips(self, task: Task) -> None:
        """Leave the task to others, and say so twice."""
        self.while_it_lasts(lambda: self.sdk.heartbeat(task))
        self.while_it_lasts(lambda: (self.sdk.skip(task, "not_my_field"), self.sdk.skip(task, "not_my_field")))

    def while_it_lasts(self, request: Callable[[], object]) -> None:
        """A request that is refused once the task has a new lease; between claims that comes of a server that died.

        Its time may be up then, or a claim was made whose reply got lost.
        """
        try:
            request()
        except ApiError as error:
            if error.code != "lease_lost" or self.server.lives == self.since:
                raise

    # --- raw

    def both(self, path: str, sent: dict[str, Any], headers: dict[str, str]) -> list[dict[str, Any]]:
        """The replies to two equal requests at once; a dying server may leave out one or both."""
        futures = [self.pool.submit(self.raw.post, path, json=sent, headers=headers) for _ in range(2)]
        replies: list[dict[str, Any]] = []
        for future in futures:
            try:
                answer = future.result()
            except httpx.TransportError:
                continue
            if answer.status_code == 503:
                continue
            assert answer.status_code == 200, answer.text
            replies.append(answer.json())
        return replies

    def send_and_leave(self, task: Task, tiers: Tiers, *, share: float) -> None:
        content = json.dumps(body(task, tiers))
        head = {**self.headers, **key(task), "Host": f"127.0.0.1:{self.server.port}"}
        head |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
        lines = [f"POST /api/v1/assignments/{task['id']}/submit HTTP/1.1", *(f"{k}: {v}" for k, v in head.items())]
        request = "\r\n".join([*lines, "", content]).encode()
        try:
            with socket.create_connection(("127.0.0.1", self.server.port), timeout=10) as connection:
                connection.sendall(request[: round(len(request) * share)])
                time.sleep(self.random.choice((0, 0.005, 0.05)))
        except OSError:
            pass  # the server is away: that request was never made

    def is_refused(self, code: str, request: Callable[[], object]) -> None:
        with pytest.raises(ApiError) as refused:
            request()
        assert refused.value.code == code


def body(task: Task, tiers: Tiers) -> dict[str, Any]:
    return {"lease_no": task["lease_no"], "answer": {"tiers": tiers}, "active_ms": 1_000}


def key(task: Task) -> dict[str, str]:
    return {"Idempotency-Key": task["idempotency_key"]}
