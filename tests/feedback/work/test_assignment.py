"""Claims, leases, skips: who gets which task, and for how long."""

import dataclasses
import itertools
from collections import Counter
from functools import partial

import pytest
from sqlalchemy import insert, select, update

import populate
from labeling import SECRET, claimed, ranked, start_batch, submitted
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store import clock
from plaudit.feedback.store.database import Database
from plaudit.feedback.store.tables import assignment, gold_key, origin, response, task, task_response
from plaudit.feedback.tasks.batches import BatchConfig, get_batch, set_status
from plaudit.feedback.upkeep.invariants import invariants
from plaudit.feedback.work.assignment import (
    LONGEST_LEASE,
    MAX_LEASES,
    claim,
    expire,
    heartbeat,
    open_assignment,
    release,
    skip,
)
from plaudit.feedback.work.drafts import save_draft
from plaudit.feedback.work.picking import gold_due

T0 = 1_800_000_000_000


def test_a_claim_gives_the_task_and_asking_again_gives_the_same(database: Database):
    with clock.at(T0), database.write() as c:
        work = start_batch(c, tasks=2)
        ada = populate.add_member(c, "Ada")
        first = claimed(c, ada)
    with clock.at(T0 + 60_000), database.write() as c:
        again = claimed(c, ada)
        assert invariants(c) == []
    assert (again.id, again.lease_no, again.idempotency_key) == (first.id, 1, first.idempotency_key)
    assert again.lease_expires_at == first.lease_expires_at + 60_000
    assert sorted(shown.id for shown in first.responses) in work.responses
    assert first.prompt[0].content.startswith("First: question")
    assert first.config.reason_required is False
    assert not hasattr(first.config, "gold_rate")


def test_nobody_gets_a_task_twice_and_no_task_is_given_out_more_often_than_asked(database: Database):
    with database.write() as c:
        start_batch(c, tasks=3, config=BatchConfig(overlap=2))
        people = [populate.add_member(c, name) for name in ("Ada", "Bob", "Cy")]
        done: list[tuple[str, str]] = []
        for _ in range(10):
            for person in people:
                found = claim(c, person, secret=SECRET)
                if found is not None:
                    submitted(c, person, found)
                    done.append((found.task_id, person))
        assert len(done) == len(set(done)) == 6
        assert set(Counter(task_id for task_id, _ in done).values()) == {2}
        assert invariants(c) == []


def test_tasks_that_were_begun_are_finished_before_new_ones(database: Database):
    with database.write() as c:
        start_batch(c, tasks=5, config=BatchConfig(overlap=2))
        ada, bob = populate.add_member(c, "Ada"), populate.add_member(c, "Bob")
        begun = [submitted_task(c, ada) for _ in range(3)]
        assert {submitted_task(c, bob) for _ in range(3)} == set(begun)


def submitted_task(c, person: str) -> str:
    found = claimed(c, person)
    submitted(c, person, found)
    return found.task_id


def test_higher_priority_comes_first(database: Database):
    with database.write() as c:
        start_batch(c, tasks=4)
        ids = list(c.execute(select(task.c.id)).scalars())
        for place, task_id in enumerate(ids):
            c.execute(update(task).where(task.c.id == task_id).values(priority=(place * 7) % 4))
        wanted = [row.id for row in c.execute(select(task).order_by(task.c.priority.desc()))]
        ada = populate.add_member(c, "Ada")
        assert [submitted_task(c, ada) for _ in range(4)] == wanted


def test_the_order_of_responses_is_the_labelers_own_and_is_kept(database: Database):
    with database.write() as c:
        start_batch(c, responses=6, config=BatchConfig(overlap=20))
        orders = []
        for number in range(12):
            person = populate.add_member(c, f"P{number}")
            found = claimed(c, person)
            stored = c.execute(select(assignment.c.shown).where(assignment.c.id == found.id)).scalar_one()
            assert [shown.id for shown in found.responses] == stored
            orders.append(tuple(stored))
        assert len(set(orders)) >= 10
        assert len({order[0] for order in orders}) >= 3


def test_an_expired_lease_frees_the_slot_and_its_draft_brings_the_task_back(database: Database):
    with clock.at(T0), database.write() as c:
        start_batch(c)
        ada, bob = populate.add_member(c, "Ada"), populate.add_member(c, "Bob")
        first = claimed(c, ada)
        save_draft(c, ada, first.id, 0, {"reason": "half a thought"})
        assert claim(c, bob, secret=SECRET) is None
    with clock.at(first.lease_expires_at + 1), database.write() as c:
        again = claimed(c, ada)
        assert (again.id, again.lease_no) == (first.id, 2)
        assert again.idempotency_key != first.idempotency_key
        assert again.draft is not None
        assert again.draft.payload == {"reason": "half a thought"}
    with clock.at(again.lease_expires_at + 1), database.write() as c:
        other = claimed(c, bob)
        assert other.task_id == first.task_id
        assert other.draft is None
        assert claim(c, ada, secret=SECRET) is None
        assert invariants(c) == []


def test_a_heartbeat_keeps_the_lease_until_the_longest_time(database: Database):
    with clock.at(T0), database.write() as c:
        start_batch(c, config=BatchConfig(lease_minutes=30))
        ada, bob = populate.add_member(c, "Ada"), populate.add_member(c, "Bob")
        found = claimed(c, ada)
    now = T0
    while now < T0 + LONGEST_LEASE:
        now += 20 * clock.MINUTE
        with clock.at(now), database.write() as c:
            assert expire(c) == 0
            end = heartbeat(c, ada, found.id, found.lease_no)
    assert end == T0 + LONGEST_LEASE
    with clock.at(end + 1), database.write() as c:
        assert expire(c) == 1
        with pytest.raises(FeedbackError, match="no longer open") as caught:
            heartbeat(c, ada, found.id, found.lease_no)
        assert caught.value.code == "lease_lost"
        assert claimed(c, bob).task_id == found.task_id


def test_another_members_assignment_does_not_exist_for_me(database: Database):
    with database.write() as c:
        start_batch(c)
        ada, bob = populate.add_member(c, "Ada"), populate.add_member(c, "Bob")
        found = claimed(c, ada)
        for attempt in (
            lambda: open_assignment(c, bob, found.id),
            lambda: heartbeat(c, bob, found.id, 1),
            lambda: skip(c, bob, found.id, "unclear"),
            lambda: release(c, bob, found.id),
            lambda: save_draft(c, bob, found.id, 0, {}),
            lambda: submitted(c, bob, found),
        ):
            with pytest.raises(FeedbackError) as caught:
                attempt()
            assert (caught.value.code, caught.value.status) == ("not_found", 404)


def test_a_skipped_task_goes_to_others_and_after_three_complaints_to_nobody(database: Database):
    with database.write() as c:
        start_batch(c, config=BatchConfig(overlap=2, skips_to_retire=3))
        people = [populate.add_member(c, f"P{number}") for number in range(5)]
        for person, reason in zip(people[:3], ("unclear", "broken", "distressing"), strict=True):
            skip(c, person, claimed(c, person).id, reason)
            assert claim(c, person, secret=SECRET) is None
        assert claim(c, people[3], secret=SECRET) is None
        assert c.execute(select(task.c.status, task.c.slots_taken)).one() == ("retired", 0)
        assert invariants(c) == []


def test_a_skip_and_a_release_that_are_sent_again_do_nothing_more(database: Database):
    with database.write() as c:
        start_batch(c, tasks=2, config=BatchConfig(skips_to_retire=2))
        ada = populate.add_member(c, "Ada")
        for end, state in ((partial(skip, reason="broken"), "skipped"), (release, "released")):
            found = claimed(c, ada)
            for _ in range(3):
                end(c, ada, found.id)
                assert open_assignment(c, ada, found.id).state == state
            row = c.execute(select(task.c.slots_taken, task.c.status).where(task.c.id == found.task_id)).one()
            assert row == (0, "open")
        assert invariants(c) == []


def test_a_skipped_task_comes_back_last_where_the_batch_says_so(database: Database):
    with database.write() as c:
        start_batch(c, tasks=2, config=BatchConfig(after_skip="later"))
        ada = populate.add_member(c, "Ada")
        first = claimed(c, ada)
        skip(c, ada, first.id, "too_long")
        second = claimed(c, ada)
        assert second.task_id != first.task_id
        submitted(c, ada, second)
        assert claimed(c, ada).id == first.id


def test_pause_and_close_stop_new_leases_and_keep_the_old(database: Database):
    with database.write() as c:
        work = start_batch(c, tasks=3)
        ada, bob = populate.add_member(c, "Ada"), populate.add_member(c, "Bob")
        found = claimed(c, ada)
        set_status(c, work.batch_id, "paused", by=None)
        assert claimed(c, ada).id == found.id
        assert claim(c, bob, secret=SECRET) is None
        set_status(c, work.batch_id, "running", by=None)
        other = claimed(c, bob)
        set_status(c, work.batch_id, "closed", by=None)
        submitted(c, ada, found)
        submitted(c, bob, other)
        assert claim(c, ada, secret=SECRET) is None
        with pytest.raises(FeedbackError, match="closed cannot become running"):
            set_status(c, work.batch_id, "running", by=None)
        assert invariants(c) == []


@pytest.mark.parametrize(
    ("state", "purpose", "code"),
    [
        ("training", "work", "not_qualified"),
        ("training", "training", None),
        ("training", "qualification", None),
        ("qualified", "work", None),
        ("qualified", "training", None),
        ("paused", "work", "paused"),
        ("removed", "training", "paused"),
    ],
)
def test_who_may_claim_what(sqlite_database: Database, state: str, purpose, code: str | None):
    with sqlite_database.write() as c:
        start_batch(c, tasks=1 if purpose == "work" else 0, gold=0 if purpose == "work" else 1, purpose=purpose)
        ada = populate.add_member(c, "Ada", state=state)
        if code is None:
            claimed(c, ada, purpose=purpose)
            return
        with pytest.raises(FeedbackError) as caught:
            claim(c, ada, secret=SECRET, purpose=purpose)
        assert (caught.value.code, caught.value.status) == (code, 403)


def test_nobody_hoards_tasks_of_many_batches(sqlite_database: Database):
    with sqlite_database.write() as c:
        batches = [start_batch(c, name=f"Batch {number}").batch_id for number in range(MAX_LEASES + 1)]
        ada = populate.add_member(c, "Ada")
        for batch_id in batches[:-1]:
            claimed(c, ada, batch_id)
        with pytest.raises(FeedbackError) as caught:
            claim(c, ada, secret=SECRET, batch_id=batches[-1])
        assert caught.value.code == "too_many_open"


def test_nobody_judges_their_own_words(database: Database):
    with database.write() as c:
        start_batch(c)
        ada, bob = populate.add_member(c, "Ada"), populate.add_member(c, "Bob")
        prompt_id, task_id = c.execute(select(task.c.prompt_id, task.c.id)).one()
        person = "0" * 32
        c.execute(
            insert(origin).values(
                id=person, kind="person", name="L-Ada", fingerprint="f" * 64, info={"member_id": ada}, created_at=T0
            )
        )
        own = populate.add_response(c, prompt_id, person, "Written by Ada.")
        c.execute(insert(task_response).values(task_id=task_id, response_id=own, prompt_id=prompt_id, slot=8))
        assert claim(c, ada, secret=SECRET) is None
        assert len(claimed(c, bob).responses) == 4


# --- gold -----------------------------------------------------------------------------------------------------------


def test_gold_comes_as_often_as_asked_and_never_twice_in_a_row():
    config = BatchConfig(gold_rate=0.1, gold_rate_start=0.2, gold_start=20)
    people = [f"member {number}" for number in range(400)]
    due = [[gold_due(SECRET, person, number, config) for number in range(120)] for person in people]
    assert not any(one and other for row in due for one, other in itertools.pairwise(row))
    start = [value for row in due for value in row[1:20]]
    later = [value for row in due for value in row[21:]]
    assert sum(start) / len(start) == pytest.approx(0.2, abs=0.015)
    assert sum(later) / len(later) == pytest.approx(0.1, abs=0.006)
    assert due[0] == [gold_due(SECRET, people[0], number, config) for number in range(120)]
    assert due[0] != [gold_due(b"another secret", people[0], number, config) for number in range(120)]


def test_gold_is_mixed_in_each_once_and_looks_like_any_other_task(database: Database):
    with database.write() as c:
        start_batch(c, tasks=60, gold=8, config=BatchConfig(gold_rate=0.2, gold_rate_start=0.25))
        keys = set(c.execute(select(gold_key.c.task_id)).scalars())
        ada = populate.add_member(c, "Ada")
        met: list[bool] = []
        shapes: dict[bool, set[tuple[str, ...]]] = {True: set(), False: set()}
        while (found := claim(c, ada, secret=SECRET)) is not None:
            is_gold = found.task_id in keys
            met.append(is_gold)
            shapes[is_gold].add(tuple(type(value).__name__ for value in dataclasses.asdict(found).values()))
            submitted(c, ada, found)
        assert 4 <= sum(met) <= 8
        assert met.count(False) == 60
        assert not any(one and other for one, other in itertools.pairwise(met))
        assert shapes[True] == shapes[False]
        assert invariants(c) == []


def test_one_labelers_gold_is_in_another_order_than_anothers(sqlite_database: Database):
    with sqlite_database.write() as c:
        start_batch(c, tasks=80, gold=8, config=BatchConfig(overlap=4, gold_rate=0.25, gold_rate_start=0.25))
        keys = set(c.execute(select(gold_key.c.task_id)).scalars())
        orders = set()
        for name in ("Ada", "Bob", "Cy"):
            person = populate.add_member(c, name)
            orders.add(tuple(found for found in (submitted_task(c, person) for _ in range(30)) if found in keys))
        assert len(orders) == 3
        assert get_batch(c, c.execute(select(task.c.batch_id)).scalars().first() or "").status == "running"


def test_no_query_for_a_labelers_page_reads_the_expected_answer(sqlite_database: Database):
    from sqlalchemy import event

    statements: list[str] = []
    with sqlite_database.write() as c:
        start_batch(c, tasks=5, gold=3)
        ada = populate.add_member(c, "Ada")
        event.listen(c, "before_cursor_execute", lambda *args: statements.append(args[2]))
        found = claimed(c, ada)
        open_assignment(c, ada, found.id)
        heartbeat(c, ada, found.id, 1)
        release(c, ada, found.id)
    assert statements
    assert not any("gold_key.expected" in statement or "explanation" in statement for statement in statements)


def test_a_dictionary_of_responses_is_whole(sqlite_database: Database):
    with sqlite_database.write() as c:
        start_batch(c)
        ada = populate.add_member(c, "Ada")
        found = claimed(c, ada)
        bodies = {row.id: row.body for row in c.execute(select(response))}
        assert {shown.id: shown.body for shown in found.responses} == bodies
        assert ranked(found).tiers.keys() == bodies.keys()
