"""The whole life of tasks in any order, against a model that keeps the same books in dictionaries.

Hypothesis draws what happens: claims, heartbeats, drafts, submits and repeated submits, edits, undos, skips, releases,
late work, clock jumps, pauses. After each step the database must agree with the model and with its own invariants.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

import populate
from labeling import SECRET, Work, claimed, ranked, start_batch
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store import clock
from plaudit.feedback.store.database import Database
from plaudit.feedback.store.tables import assignment, task
from plaudit.feedback.tasks.batches import Adaptive, BatchConfig, set_status
from plaudit.feedback.upkeep.invariants import invariants
from plaudit.feedback.work.assignment import Assignment, claim, expire, heartbeat, open_assignment, release, skip
from plaudit.feedback.work.drafts import save_draft
from plaudit.feedback.work.submissions import UNDO_MS, Receipt, submit, undo

MINUTES = 30
OVERLAP, MAXIMUM = 2, 3
PEOPLE, TASKS = 4, 3
people = st.integers(0, PEOPLE - 1)


@dataclass
class Held:
    """What the model knows of one labeler's assignment."""

    page: Assignment
    state: str = "leased"
    expires_at: int = 0
    receipts: list[tuple[Assignment, bool, Receipt]] = field(
        default_factory=list
    )  # the page, the answer, what came of it
    submitted_at: int = 0


class Scheduler(RuleBasedStateMachine):
    database: Database

    @initialize()
    def begin(self):
        self.now = 1_800_000_000_000
        self.status = "running"
        # The examples share a database: leases that an earlier one left open are not this one's to count.
        with clock.at(self.now + 10_000 * clock.DAY), self.database.write() as c:
            while expire(c):
                pass
        with self._write() as c:
            number = populate.tables.new_id()[:8]
            adaptive = Adaptive(maximum=MAXIMUM, below=0.6, audited_share=0)
            config = BatchConfig(overlap=OVERLAP, adaptive=adaptive, lease_minutes=MINUTES, skips_to_retire=0)
            self.work: Work = start_batch(c, tasks=TASKS, config=config, name=f"Batch {number}")
            self.people = [populate.add_member(c, f"{number}-{person}") for person in range(PEOPLE)]
        self.held: dict[tuple[int, str], Held] = {}  # by labeler and task

    def _write(self):
        return _Step(self.database, self.now)

    # --- what happens -----------------------------------------------------------------------------------------------

    @rule(who=people)
    def ask_for_work(self, who: int):
        live = self._live(who)
        with self._write() as c:
            found = claim(c, self.people[who], secret=SECRET, batch_id=self.work.batch_id)
        if live is not None:
            assert found is not None
            assert (found.id, found.lease_no) == (live.page.id, live.page.lease_no)
            live.expires_at = found.lease_expires_at
            return
        self._sweep()  # every claim does, also one that finds the batch paused
        if found is None:
            assert self.status != "running" or not self._could_work(who), "work was left, and nobody was given it"
            return
        assert self.status == "running", "a batch that is not running gave out a task"
        before = self.held.get((who, found.task_id))
        assert before is None or before.state in ("expired", "released"), f"given again after {before and before.state}"
        assert before is None or found.lease_no > before.page.lease_no
        receipts = before.receipts if before else []
        self.held[who, found.task_id] = Held(found, "leased", found.lease_expires_at, receipts)

    @rule(who=people)
    def beat(self, who: int):
        if (live := self._leased(who)) is None:
            return
        with self._write() as c:
            live.expires_at = heartbeat(c, self.people[who], live.page.id, live.page.lease_no)

    @rule(who=people, revision=st.integers(0, 2))
    def type_something(self, who: int, revision: int):
        if (live := self._leased(who)) is None:
            return
        with self._write() as c:
            page = open_assignment(c, self.people[who], live.page.id)
            current = page.draft.revision if page.draft else 0
            if revision == current:
                assert save_draft(c, self.people[who], page.id, revision, {"reason": "typed"}) == revision + 1
            else:
                with pytest.raises(FeedbackError):
                    save_draft(c, self.people[who], page.id, revision, {})

    @rule(who=people, reverse=st.booleans(), number=st.integers(0, TASKS - 1))
    def submit_something(self, who: int, reverse: bool, number: int):
        """From any page this labeler has ever had open: in time, late, or as an edit."""
        mine = [held for (person, _), held in sorted(self.held.items()) if person == who]
        if number >= len(mine):
            return
        held = mine[number]
        if held.state == "submitted":
            if self.status == "closed":
                return
            with self._write() as c:
                held.page = open_assignment(c, self.people[who], held.page.id)
        with self._write() as c:
            receipt = self._send(c, who, held.page, reverse)
        assert not receipt.replayed
        assert receipt.revision == len(held.receipts) + 1
        assert receipt.late == (
            held.state not in ("leased", "submitted") or (held.state == "leased" and self.now > held.expires_at)
        )
        held.receipts.append((held.page, reverse, receipt))
        held.state, held.submitted_at = "submitted", self.now

    @rule(who=people, number=st.integers(0, TASKS - 1), revision=st.integers(0, 3), another=st.booleans())
    def submit_again(self, who: int, number: int, revision: int, another: bool):
        """A request that was sent before comes once more, word for word, or with another answer under its key."""
        mine = [held for (person, _), held in sorted(self.held.items()) if person == who and held.receipts]
        if number >= len(mine) or revision >= len(mine[number].receipts):
            return
        page, reverse, receipt = mine[number].receipts[revision]
        with self._write() as c:
            if another:
                with pytest.raises(FeedbackError) as caught:
                    self._send(c, who, page, not reverse)
                assert caught.value.code == "key_reused"
            else:
                again = self._send(c, who, page, reverse)
                assert again.replayed
                assert (again.submission_id, again.revision) == (receipt.submission_id, receipt.revision)

    @rule(who=people, number=st.integers(0, TASKS - 1))
    def undo_something(self, who: int, number: int):
        mine = [held for (person, _), held in sorted(self.held.items()) if person == who and held.state == "submitted"]
        if number >= len(mine):
            return
        held = mine[number]
        with self._write() as c:
            if self.status == "closed" or self.now - held.submitted_at > UNDO_MS:
                with pytest.raises(FeedbackError):
                    undo(c, self.people[who], held.receipts[-1][2].submission_id)
                return
            assert undo(c, self.people[who], held.receipts[-1][2].submission_id) == held.page.id
            held.page = open_assignment(c, self.people[who], held.page.id)
        assert held.page.draft is not None
        held.state, held.expires_at = "leased", held.page.lease_expires_at

    @rule(who=people, how=st.sampled_from(["skipped", "released"]))
    def let_go(self, who: int, how: str):
        if (live := self._leased(who)) is None:
            return
        with self._write() as c:
            if how == "skipped":
                skip(c, self.people[who], live.page.id, "unclear")
            else:
                release(c, self.people[who], live.page.id)
        live.state = how

    @rule(minutes=st.sampled_from([1, 10, MINUTES, 2 * MINUTES, 10 * 60]), sweep=st.booleans())
    def time_goes_by(self, minutes: int, sweep: bool):
        self.now += minutes * clock.MINUTE
        if sweep:
            with self._write() as c:
                count = expire(c)
            assert count == self._sweep()

    @precondition(lambda self: self.status in ("running", "paused"))
    @rule()
    def pause_or_go_on(self):
        self._set("paused" if self.status == "running" else "running")

    @precondition(lambda self: self.status != "closed" and len(self.held) > 4)
    @rule(really=st.integers(0, 5))
    def close(self, really: int):
        if really == 0:
            self._set("closed")

    # --- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def the_database_agrees(self):
        if not hasattr(self, "work"):
            return
        with self.database.read() as c:
            assert invariants(c) == []
            stored = {
                (self.people.index(row.member_id), row.task_id): row.state
                for row in c.execute(
                    select(assignment)
                    .join(task, task.c.id == assignment.c.task_id)
                    .where(task.c.batch_id == self.work.batch_id)
                )
            }
            tasks = c.execute(select(task).where(task.c.batch_id == self.work.batch_id)).all()
        assert stored == {key: held.state for key, held in self.held.items()}
        for row in tasks:
            done = [held for (_, task_id), held in self.held.items() if task_id == row.id and held.state == "submitted"]
            assert row.submitted == len(done)

    # --- the model --------------------------------------------------------------------------------------------------

    def _send(self, c, who: int, page: Assignment, reverse: bool) -> Receipt:
        return submit(
            c,
            self.people[who],
            page.id,
            ranked(page, reverse=reverse),
            idempotency_key=page.idempotency_key,
            lease_no=page.lease_no,
            active_ms=None,
        )

    def _leased(self, who: int) -> Held | None:
        return next((held for (person, _), held in self.held.items() if person == who and held.state == "leased"), None)

    def _live(self, who: int) -> Held | None:
        found = [held for (person, _), held in self.held.items() if person == who and held.state == "leased"]
        live = [held for held in found if held.expires_at >= self.now]
        # After an undo there may be two; a claim resumes the older lease.
        return min(live, key=lambda held: held.page.lease_expires_at, default=None)

    def _sweep(self) -> int:
        over = [held for held in self.held.values() if held.state == "leased" and held.expires_at < self.now]
        for held in over:
            held.state = "expired"
        return len(over)

    def _could_work(self, who: int) -> bool:
        """Whether a task has a free slot that this labeler may take."""
        with self.database.read() as c:
            rows = c.execute(select(task).where(task.c.batch_id == self.work.batch_id)).all()
        for row in rows:
            own = self.held.get((who, row.id))
            if row.slots_taken < row.overlap and (own is None or own.state in ("expired", "released")):
                return True
        return False

    def _set(self, status):
        with self._write() as c:
            set_status(c, self.work.batch_id, status, by=None)
        self.status = status


class _Step:
    """One transaction at a standing time."""

    def __init__(self, database: Database, now: int) -> None:
        self._at, self._write = clock.at(now), database.write()

    def __enter__(self):
        self._at.__enter__()
        return self._write.__enter__()

    def __exit__(self, *error):
        try:
            return self._write.__exit__(*error)
        finally:
            self._at.__exit__(None, None, None)


def _run(database: Database, examples: int, steps: int) -> None:
    machine = type("Machine", (Scheduler,), {"database": database})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


def test_any_order_of_events_keeps_the_books(database: Database):
    _run(database, examples=6 if database.is_sqlite else 2, steps=30)


@pytest.mark.slow
def test_very_many_orders_of_events_keep_the_books(database: Database):
    _run(database, examples=100, steps=60)


def test_the_books_show_a_slot_that_is_not_given_back(sqlite_database: Database, monkeypatch):
    """The test of the test."""
    from plaudit.feedback.tasks import slots

    monkeypatch.setattr(slots, "give_back", lambda *_: None)
    with sqlite_database.write() as c:
        start_batch(c)
        ada = populate.add_member(c, "Ada")
        release(c, ada, claimed(c, ada).id)
        assert "1 slots and 0 judgments are noted" in invariants(c)[0]
