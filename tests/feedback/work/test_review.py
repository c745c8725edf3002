"""Reviewers: what they see first, what they may decide, and what becomes of voided work."""

import pytest
from sqlalchemy import select

import populate
from labeling import SECRET, claimed, ranked, start_batch, submitted
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store.database import Database
from plaudit.feedback.store.tables import adjudication, task
from plaudit.feedback.tasks.answers import RankingAnswer
from plaudit.feedback.tasks.batches import BatchConfig
from plaudit.feedback.upkeep.invariants import invariants
from plaudit.feedback.work.assignment import claim, skip
from plaudit.feedback.work.review import adjudicate, case, queue, reopen, restore, void


def code_of(call) -> str:
    with pytest.raises(FeedbackError) as caught:
        call()
    return caught.value.code


def test_the_lowest_agreement_comes_first_and_decided_tasks_leave(database: Database):
    with database.write() as c:
        start_batch(c, tasks=3, config=BatchConfig(overlap=2, gold_rate=0, gold_rate_start=0))
        ada, bob = populate.add_member(c, "Ada"), populate.add_member(c, "Bob")
        eve = populate.add_member(c, "Eve", role="reviewer")
        opinions = {}
        for _ in range(3):
            found = claimed(c, ada)
            submitted(c, ada, found)
            opinions[found.task_id] = len(opinions)
        for _ in range(3):
            found = claimed(c, bob)
            one, two, three = sorted(shown.id for shown in found.responses)
            answers = [{one: 1, two: 2, three: 3}, {one: 2, two: 1, three: 3}, {one: 3, two: 2, three: 1}]
            submitted(c, bob, found, RankingAnswer(answers[opinions[found.task_id]], flags={one: ["false"]}))
        first, second = queue(c, eve)
        assert [first.agreement, second.agreement] == [0, pytest.approx(2 / 3)]
        assert (first.judgments, first.flags, first.skips, first.own) == (2, 1, 0, False)
        assert len(queue(c, eve, show="flags")) == 3
        assert [one.task_id for one in queue(c, eve, limit=1, offset=1)] == [second.task_id]
        assert code_of(lambda: queue(c, ada)) == "forbidden"

        side = case(c, eve, first.task_id)
        assert [one.pseudonym for one in side.judgments] == ["L-Ada", "L-Bob"]
        assert side.agreement == 0
        tiers = {shown.id: place for place, shown in enumerate(side.responses, start=1)}
        assert code_of(lambda: adjudicate(c, eve, first.task_id, {}, "taste", "")) == "invalid_answer"
        adjudicate(c, eve, first.task_id, tiers, "taste", " Both are fair. ")
        assert code_of(lambda: adjudicate(c, eve, first.task_id, tiers, "taste", "")) == "decided"
        assert [one.task_id for one in queue(c, eve)] == [second.task_id]
        (decision,) = case(c, eve, first.task_id).decisions
        assert (decision.pseudonym, decision.tiers, decision.note) == ("L-Eve", tiers, "Both are fair.")
        assert c.execute(select(task.c.submitted)).scalars().all() == [2, 2, 2]
        assert invariants(c) == []


def test_nobody_decides_or_voids_their_own_work(database: Database):
    with database.write() as c:
        start_batch(c, config=BatchConfig(overlap=2))
        eve, ada = populate.add_member(c, "Eve", role="reviewer"), populate.add_member(c, "Ada")
        found = claimed(c, eve)
        assert code_of(lambda: case(c, eve, found.task_id)) == "own_work"
        receipt = submitted(c, eve, found)
        other = claimed(c, ada)
        submitted(c, ada, other, ranked(other, reverse=True))
        assert case(c, eve, found.task_id).own
        assert queue(c, eve)[0].own
        assert code_of(lambda: adjudicate(c, eve, found.task_id, {}, "taste", "")) == "own_work"
        assert code_of(lambda: void(c, receipt.submission_id, "bad", by=eve)) == "own_work"
        assert c.execute(select(adjudication)).first() is None


def test_voided_work_frees_its_slot_and_restored_work_counts_again(database: Database):
    with database.write() as c:
        start_batch(c)
        eve = populate.add_member(c, "Eve", role="reviewer")
        ada, bob = populate.add_member(c, "Ada"), populate.add_member(c, "Bob")
        found = claimed(c, ada)
        receipt = submitted(c, ada, found)
        assert claim(c, bob, secret=SECRET) is None
        void(c, receipt.submission_id, "random clicks", by=eve)
        assert invariants(c) == []
        assert code_of(lambda: void(c, receipt.submission_id, "again", by=eve)) == "wrong_state"
        assert claim(c, ada, secret=SECRET) is None  # never the same to one person
        assert case(c, eve, found.task_id).judgments[0].state == "voided"
        submitted(c, bob, claimed(c, bob))
        restore(c, receipt.submission_id, "they were not", by=eve)
        row = c.execute(select(task)).one()
        assert (row.overlap, row.submitted, row.status, row.agreement) == (2, 2, "complete", 1)
        assert invariants(c) == []
        void(c, receipt.submission_id, "they were", by=eve)
        row = c.execute(select(task)).one()
        assert (row.overlap, row.submitted, row.status, row.agreement) == (1, 1, "complete", None)
        assert invariants(c) == []


def test_a_task_that_people_gave_up_on_can_be_given_out_again(database: Database):
    with database.write() as c:
        start_batch(c, config=BatchConfig(skips_to_retire=1))
        eve = populate.add_member(c, "Eve", role="reviewer")
        ada, bob = populate.add_member(c, "Ada"), populate.add_member(c, "Bob")
        found = claimed(c, ada)
        skip(c, ada, found.id, "unclear")
        assert claim(c, bob, secret=SECRET) is None
        (item,) = queue(c, eve, show="skips")
        assert (item.task_id, item.skips, item.agreement) == (found.task_id, 1, None)
        reopen(c, found.task_id, by=eve)
        assert claimed(c, bob).task_id == found.task_id
        assert code_of(lambda: reopen(c, found.task_id, by=eve)) == "not_found"
        assert invariants(c) == []
