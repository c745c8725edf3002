"""Submitting: once, whole, late, again, and taken back."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

import populate
from labeling import SECRET, claimed, ranked, start_batch, submitted
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store import clock
from plaudit.feedback.store.database import Database
from plaudit.feedback.store.tables import ranking_entry, submission, submission_text, task
from plaudit.feedback.tasks.answers import Answer, DemonstrationAnswer, RankingAnswer, as_json
from plaudit.feedback.tasks.batches import Adaptive, BatchConfig, set_config, set_status
from plaudit.feedback.tasks.overlap import agreement
from plaudit.feedback.upkeep.invariants import invariants
from plaudit.feedback.work.assignment import Assignment, claim, expire, open_assignment, release, skip
from plaudit.feedback.work.drafts import MAX_DRAFT_CHARS, save_draft
from plaudit.feedback.work.history import PAGE, history
from plaudit.feedback.work.submissions import UNDO_MS, submit, undo

T0 = 1_800_000_000_000


def send(c: Connection, member_id: str, found: Assignment, answer: Answer, **changes: Any):
    arguments = {"idempotency_key": found.idempotency_key, "lease_no": found.lease_no, "active_ms": 5, **changes}
    return submit(c, member_id, found.id, answer, **arguments)


def code_of(call) -> str:
    with pytest.raises(FeedbackError) as caught:
        call()
    return caught.value.code


@pytest.fixture
def ada_at_work(database: Database):
    with database.write() as c:
        start_batch(c, tasks=2)
        ada = populate.add_member(c, "Ada")
        return ada, claimed(c, ada)


def test_a_repeated_submit_is_the_same_submit(database: Database, ada_at_work):
    ada, found = ada_at_work
    with database.write() as c:
        first = send(c, ada, found, ranked(found))
    with database.write() as c:
        again = send(c, ada, found, ranked(found), active_ms=99)
        assert again == replace(first, replayed=True)
        assert code_of(lambda: send(c, ada, found, ranked(found, reverse=True))) == "key_reused"
        assert c.execute(select(func.count()).select_from(submission)).scalar() == 1
        assert invariants(c) == []


def test_a_replay_is_recognised_also_when_the_rules_changed_since(database: Database, ada_at_work):
    ada, found = ada_at_work
    with database.write() as c:
        first = send(c, ada, found, ranked(found))
        set_config(c, found.batch_id, BatchConfig(reason_required=True), by=None)
        assert send(c, ada, found, ranked(found)).submission_id == first.submission_id


def test_tiers_become_dense_and_everything_is_kept(database: Database, ada_at_work):
    ada, found = ada_at_work
    one, two, three = sorted(shown.id for shown in found.responses)
    answer = RankingAnswer({one: 7, two: 2, three: 2}, flags={one: ["false", "false"]}, reason=" why ", confidence=4)
    with database.write() as c:
        receipt = send(c, ada, found, answer)
        tiers = {row.response_id: row.tier for row in c.execute(select(ranking_entry))}
        assert tiers == {one: 2, two: 1, three: 1}
        stored = open_assignment(c, ada, found.id)
        assert stored.answer == RankingAnswer(tiers, False, {one: ["false"]}, "why", 4)
        assert (stored.state, stored.draft) == ("submitted", None)
        row = c.execute(select(submission)).one()
        assert (row.id, row.revision, row.active_ms) == (receipt.submission_id, 1, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids: RankingAnswer({ids[0]: 1, ids[1]: 2}), "1 of 3 responses have no rank"),
        (lambda _: RankingAnswer({}), "3 of 3 responses have no rank"),
        (lambda ids: RankingAnswer(dict.fromkeys([*ids, "f" * 32], 1)), "does not show"),
        (lambda ids: RankingAnswer({**dict.fromkeys(ids, 1), ids[0]: 0}), "ranks count from 1"),
        (lambda ids: RankingAnswer(dict.fromkeys(ids, 1), flags={ids[0]: ["nice"]}), "no flag nice"),
        (lambda ids: RankingAnswer(dict.fromkeys(ids, 1), flags={"x": ["false"]}), "flags a response"),
        (lambda ids: RankingAnswer(dict.fromkeys(ids, 1), confidence=6), "scale from 1 to 5"),
        (lambda ids: RankingAnswer(dict.fromkeys(ids, 1), reason="a\0b"), "cannot be stored"),
        (lambda ids: RankingAnswer(dict.fromkeys(ids, 1), reason="\ud800"), "cannot be stored"),
        (lambda ids: RankingAnswer(dict.fromkeys(ids, 1), reason="x" * 200_001), "more than 200000"),
        (lambda _: DemonstrationAnswer("text"), "asks for a ranking"),
    ],
)
def test_what_is_no_answer_is_refused_and_nothing_is_stored(sqlite_database: Database, change, message: str):
    with sqlite_database.write() as c:
        start_batch(c)
        ada = populate.add_member(c, "Ada")
        found = claimed(c, ada)
        with pytest.raises(FeedbackError, match=message) as caught:
            send(c, ada, found, change(sorted(shown.id for shown in found.responses)))
        assert (caught.value.code, caught.value.status) == ("invalid_answer", 422)
        assert c.execute(select(submission)).first() is None


def test_none_acceptable_needs_no_ranking_and_a_batch_can_ask_for_a_reason(database: Database):
    with database.write() as c:
        start_batch(c, config=BatchConfig(reason_required=True))
        ada = populate.add_member(c, "Ada")
        found = claimed(c, ada)
        assert code_of(lambda: send(c, ada, found, RankingAnswer({}, none_acceptable=True))) == "invalid_answer"
        send(c, ada, found, RankingAnswer({}, none_acceptable=True, reason="All wrong."))
        assert c.execute(select(submission.c.outcome)).scalar() == "none_acceptable"
        assert invariants(c) == []


def test_a_demonstration_is_kept_word_for_word(database: Database):
    with database.write() as c:
        start_batch(c, kind="demonstration")
        ada = populate.add_member(c, "Ada")
        found = claimed(c, ada)
        assert found.responses == ()
        assert code_of(lambda: send(c, ada, found, DemonstrationAnswer(" \n "))) == "invalid_answer"
        send(c, ada, found, DemonstrationAnswer("  An answer.\n", reason="r"))
        words = {row.field: row.body for row in c.execute(select(submission_text))}
        assert words == {"demonstration": "  An answer.\n", "reason": "r"}
        assert open_assignment(c, ada, found.id).answer == DemonstrationAnswer("  An answer.\n", "r", None)
        assert invariants(c) == []


def test_an_edit_is_the_next_revision_with_the_next_key(database: Database, ada_at_work):
    ada, found = ada_at_work
    with database.write() as c:
        first = send(c, ada, found, ranked(found))
        page = open_assignment(c, ada, found.id)
        second = send(c, ada, page, ranked(found, reverse=True))
        assert (first.revision, second.revision) == (1, 2)
        assert code_of(lambda: send(c, ada, found, ranked(found), idempotency_key="0" * 32)) == "stale_key"
        assert c.execute(select(task.c.submitted).where(task.c.id == found.task_id)).scalar() == 1
        assert send(c, ada, found, ranked(found)) == replace(first, replayed=True)
        latest = open_assignment(c, ada, found.id)
        assert latest.answer == ranked(found, reverse=True)
        set_status(c, found.batch_id, "closed", by=None)
        assert code_of(lambda: send(c, ada, latest, ranked(found))) == "batch_closed"
        assert invariants(c) == []


def test_undo_opens_the_task_again_with_the_answer_as_draft(database: Database, ada_at_work):
    ada, found = ada_at_work
    with clock.at(T0), database.write() as c:
        receipt = send(c, ada, found, ranked(found))
    with clock.at(T0 + UNDO_MS), database.write() as c:
        assert undo(c, ada, receipt.submission_id) == found.id
        assert undo(c, ada, receipt.submission_id) == found.id
        assert invariants(c) == []
        page = claimed(c, ada)
        assert (page.id, page.lease_no, page.state) == (found.id, 2, "leased")
        assert page.draft is not None
        assert page.draft.payload == as_json(ranked(found))
        assert code_of(lambda: send(c, ada, found, ranked(found), idempotency_key="1" * 32)) == "lease_lost"
        second = send(c, ada, page, ranked(found, reverse=True))
        assert second.revision == 2
        assert invariants(c) == []
        assert code_of(lambda: undo(c, ada, receipt.submission_id)) == "superseded"
    with clock.at(T0 + 2 * UNDO_MS + 1), database.write() as c:
        assert code_of(lambda: undo(c, ada, second.submission_id)) == "too_late"


def test_late_work_takes_its_slot_again_if_it_is_free(database: Database, ada_at_work):
    ada, found = ada_at_work
    with clock.at(found.lease_expires_at + 1), database.write() as c:
        late = send(c, ada, found, ranked(found))
        assert late.late
        assert c.execute(select(task.c.overlap).where(task.c.id == found.task_id)).scalar() == 1
    with database.write() as c:
        other = claimed(c, ada)
    with clock.at(other.lease_expires_at + 1), database.write() as c:
        assert expire(c) == 1
        assert send(c, ada, other, ranked(other)).late
        assert c.execute(select(task.c.overlap).where(task.c.id == other.task_id)).scalar() == 1
        assert send(c, ada, other, ranked(other)).replayed
        assert invariants(c) == []


@pytest.mark.parametrize("how", ["expired", "skipped", "released"])
def test_late_work_is_kept_also_when_the_slot_is_gone(database: Database, how: str):
    with database.write() as c:
        start_batch(c)
        ada, bob = populate.add_member(c, "Ada"), populate.add_member(c, "Bob")
        found = claimed(c, ada)
        if how == "skipped":
            skip(c, ada, found.id, "too_long")
        elif how == "released":
            release(c, ada, found.id)
    with clock.at(found.lease_expires_at + 1), database.write() as c:
        other = claimed(c, bob)
        late = send(c, ada, found, ranked(found))
        assert late.late
        submitted(c, bob, other)
        row = c.execute(select(task)).one()
        assert (row.overlap, row.submitted, row.status) == (2, 2, "complete")
        assert invariants(c) == []
        # Taking the surplus work back takes its slot back as well.
        undo(c, ada, late.submission_id)
        assert invariants(c) == []
        release(c, ada, found.id)
        row = c.execute(select(task)).one()
        assert (row.overlap, row.submitted, row.status) == (1, 1, "complete")
        assert invariants(c) == []


def test_an_old_page_cannot_submit_for_a_new_lease(database: Database):
    with database.write() as c:
        start_batch(c)
        ada = populate.add_member(c, "Ada")
        old = claimed(c, ada)
        save_draft(c, ada, old.id, 0, {"reason": "mine"})
    with clock.at(old.lease_expires_at + 1), database.write() as c:
        new = claimed(c, ada)
        assert new.lease_no == 2
        assert code_of(lambda: send(c, ada, old, ranked(old))) == "lease_lost"
        send(c, ada, new, ranked(new))


def test_a_draft_of_an_older_page_is_refused(database: Database, ada_at_work):
    ada, found = ada_at_work
    with database.write() as c:
        assert save_draft(c, ada, found.id, 0, {"reason": "one"}) == 1
        assert save_draft(c, ada, found.id, 1, {"reason": "two"}) == 2
        assert save_draft(c, ada, found.id, 1, {"reason": "two"}) == 2  # sent again, because the reply got lost
        for stale in (0, 1, 3):
            assert code_of(lambda stale=stale: save_draft(c, ada, found.id, stale, {})) == "stale_draft"
        page = open_assignment(c, ada, found.id)
        assert page.draft is not None
        assert (page.draft.revision, page.draft.payload) == (2, {"reason": "two"})
        for bad in ({"reason": "\0"}, {"\ud800": 1}, {"reason": ["x" * MAX_DRAFT_CHARS]}, {"n": float("nan")}):
            assert code_of(lambda bad=bad: save_draft(c, ada, found.id, 2, bad)) in ("invalid_draft", "invalid_answer")


# --- adaptive overlap -----------------------------------------------------------------------------------------------


def test_agreement_counts_pairs_in_the_same_order():
    same, other = {"a": 1, "b": 2, "c": 3}, {"a": 3, "b": 2, "c": 1}
    assert agreement([same]) is None
    assert agreement([same, dict(same)]) == 1
    assert agreement([same, other]) == 0
    assert agreement([same, {"a": 1, "b": 1, "c": 2}]) == pytest.approx(2 / 3)
    assert agreement([same, same, other]) == pytest.approx(1 / 3)
    assert agreement([{}, {}]) == 1
    assert agreement([{}, same]) == 0


@pytest.mark.parametrize(("opinions", "asked"), [((0, 0), 2), ((0, 1), 4), ((0, 1, 1), 4), ((0, 1, 1, 1), 4)])
def test_disagreement_raises_the_overlap_up_to_the_maximum(database: Database, opinions, asked: int):
    with database.write() as c:
        adaptive = Adaptive(maximum=4, below=0.6, audited_share=0)
        start_batch(c, config=BatchConfig(overlap=2, adaptive=adaptive))
        people = [populate.add_member(c, f"P{number}") for number in range(6)]
        given = 0
        for person, opinion in zip(people, [*opinions, *[1] * 6], strict=False):
            found = claim(c, person, secret=SECRET)
            if found is None:
                break
            submitted(c, person, found, ranked(found, reverse=bool(opinion)))
            given += 1
            assert invariants(c) == []
        assert given == asked
        row = c.execute(select(task)).one()
        assert (row.overlap, row.status) == (asked, "complete")


def test_an_audited_share_gets_the_maximum_from_the_start(sqlite_database: Database):
    with sqlite_database.write() as c:
        adaptive = Adaptive(maximum=5, audited_share=0.25)
        start_batch(c, tasks=400, responses=2, config=BatchConfig(overlap=2, adaptive=adaptive))
        rows = c.execute(select(task.c.overlap, task.c.selection)).all()
        audited = [row.selection["audited"] for row in rows]
        assert {(row.overlap, row.selection["audited"]) for row in rows} == {(5, True), (2, False)}
        assert 60 <= sum(audited) <= 140
        assert invariants(c) == []


# --- history --------------------------------------------------------------------------------------------------------


def test_the_history_is_ones_own_and_paged(database: Database):
    with database.write() as c:
        start_batch(c, tasks=PAGE + 3, config=BatchConfig(overlap=2))
        ada, bob = populate.add_member(c, "Ada"), populate.add_member(c, "Bob")
        order: list[str] = []
        for number in range(PAGE + 3):
            with clock.at(T0 + number):
                found = claimed(c, ada)
                submitted(c, ada, found)
            order.append(found.id)
        submitted(c, bob, claimed(c, bob))
        first, second = history(c, ada), history(c, ada, 2)
        assert [past.assignment_id for past in first.items + second.items] == order[::-1]
        assert (first.total, first.pages, len(second.items)) == (PAGE + 3, 2, 3)
        assert first.items[0].prompt.startswith("First: question")
        assert first.items[0].editable
        assert history(c, ada, 3).items == []
        assert history(c, bob).total == 1
