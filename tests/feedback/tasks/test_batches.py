"""Batches and their tasks: made, counted, priced, run, paused and closed."""

import pytest
from sqlalchemy import func, select

import populate
from labeling import claimed, in_order, start_batch, submitted
from plaudit.feedback import audit_log
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store.database import Database
from plaudit.feedback.store.tables import gold_key, response, task, task_response
from plaudit.feedback.tasks.batches import (
    Adaptive,
    BatchConfig,
    create_batch,
    get_batch,
    labeler_counts,
    parse_config,
    progress,
    set_status,
)
from plaudit.feedback.tasks.costs import preview_cost
from plaudit.feedback.tasks.tasks import EVERYBODY, NewGold, NewTask, add_tasks, tasks_from_prompts
from plaudit.feedback.upkeep.invariants import invariants


def test_equal_texts_are_one_card_and_equal_tasks_one_task(database: Database):
    with database.write() as c:
        populate.add_guideline(c)
        batch_id = create_batch(c, "First", "ranking", "work", BatchConfig(), by=None)
        one, two = populate.add_origin(c, "a"), populate.add_origin(c, "b")
        prompt = populate.add_prompt(c, one)
        ids = [populate.add_response(c, prompt, origin, text) for origin in (one, two) for text in ("Apple.", "Pear.")]
        assert add_tasks(c, batch_id, [NewTask(prompt, tuple(ids))]) == (1, 0)
        assert c.execute(select(func.count()).select_from(task_response)).scalar() == 2
        # The other model's copies of the same texts are the same question.
        assert add_tasks(c, batch_id, [NewTask(prompt, tuple(ids[2:])), NewTask(prompt, tuple(ids[:2]))]) == (0, 2)
        with pytest.raises(FeedbackError, match="1 different responses"):
            add_tasks(c, batch_id, [NewTask(prompt, (ids[0], ids[2]))])


def test_a_task_cannot_show_an_answer_to_another_prompt(database: Database):
    with database.write() as c:
        work = start_batch(c, tasks=2)
        with pytest.raises(FeedbackError, match="no response to the prompt") as caught:
            add_tasks(c, work.batch_id, [NewTask(work.prompts[0], tuple(work.responses[1]))])
        assert caught.value.code == "invalid_task"


def test_gold_of_a_collapsed_text_is_kept_under_the_card_that_is_shown(sqlite_database: Database):
    with sqlite_database.write() as c:
        populate.add_guideline(c)
        batch_id = create_batch(c, "First", "ranking", "qualification", BatchConfig(), by=None)
        one, two = populate.add_origin(c, "a"), populate.add_origin(c, "b")
        prompt = populate.add_prompt(c, one)
        good, bad = populate.add_response(c, prompt, one, "Apple."), populate.add_response(c, prompt, one, "Car.")
        copy = populate.add_response(c, prompt, two, "Apple.")
        add_tasks(c, batch_id, [NewTask(prompt, (good, copy, bad), gold=NewGold(in_order([copy, bad])))])
        shown = set(c.execute(select(task_response.c.response_id)).scalars())
        constraint = c.execute(select(gold_key.c.expected)).scalar_one()["constraints"][0]
        assert {constraint["better"], constraint["worse"]} == shown
        assert constraint["better"] in (good, copy)
        assert c.execute(select(task.c.overlap)).scalar() == EVERYBODY
        with pytest.raises(FeedbackError, match="expected answer only"):
            add_tasks(c, batch_id, [NewTask(prompt, (good, bad))])


@pytest.mark.parametrize(
    ("responses", "most", "sizes"), [(4, 4, [4]), (5, 4, [2, 3]), (9, 4, [3, 3, 3]), (3, 2, [2, 2])]
)
def test_prompts_with_many_responses_are_dealt_into_even_tasks(sqlite_database: Database, responses, most, sizes):
    with sqlite_database.write() as c:
        work = start_batch(c, responses=min(responses, 9))
        tasks = tasks_from_prompts(c, work.prompts, BatchConfig(responses_per_task=most), "ranking")
        assert sorted(len(one.response_ids) for one in tasks) == sizes
        assert {name for one in tasks for name in one.response_ids} == set(work.responses[0])
        assert tasks == tasks_from_prompts(c, work.prompts, BatchConfig(responses_per_task=most), "ranking")
        assert len(tasks_from_prompts(c, work.prompts, BatchConfig(), "demonstration")) == 1


def test_a_prompt_with_one_different_response_is_left_out(sqlite_database: Database):
    with sqlite_database.write() as c:
        one, two = populate.add_origin(c, "a"), populate.add_origin(c, "b")
        prompt = populate.add_prompt(c, one)
        for origin in (one, two):
            populate.add_response(c, prompt, origin, "Apple.")
        assert tasks_from_prompts(c, [prompt], BatchConfig(), "ranking") == []


def test_a_batch_goes_from_draft_to_closed_and_the_log_tells(database: Database):
    with database.write() as c:
        guideline = populate.add_guideline(c)
        ada = populate.add_member(c, "Ada", role="admin")
        batch_id = create_batch(c, " First ", "ranking", "work", BatchConfig(overlap=3), by=ada)
        found = get_batch(c, batch_id)
        assert (found.name, found.status, found.guideline_id, found.config.overlap) == ("First", "draft", guideline, 3)
        for call, code in (
            (lambda: create_batch(c, "First", "ranking", "work", BatchConfig(), by=ada), "name_taken"),
            (lambda: create_batch(c, " ", "ranking", "work", BatchConfig(), by=ada), "invalid_batch"),
            (lambda: create_batch(c, "D", "demonstration", "training", BatchConfig(), by=ada), "invalid_batch"),
            (lambda: set_status(c, batch_id, "running", by=ada), "no_tasks"),
            (lambda: set_status(c, batch_id, "paused", by=ada), "wrong_status"),
            (lambda: get_batch(c, "0"), "not_found"),
        ):
            with pytest.raises(FeedbackError) as caught:
                call()
            assert caught.value.code == code
        set_status(c, batch_id, "closed", by=ada)
        actions = [event.action for event in audit_log.events(c)]
        assert actions == ["batch.closed", "batch.create"]


def test_settings_that_make_no_sense_are_explained():
    with pytest.raises(ValueError, match="leaves nothing to add"):
        BatchConfig(overlap=4, adaptive=Adaptive(maximum=4))
    with pytest.raises(FeedbackError, match=r"gold_rate.*overlapp") as caught:
        parse_config({"gold_rate": 0.5, "overlapp": 2})
    assert caught.value.status == 422
    assert parse_config({"overlap": 2}).overlap == 2


def test_progress_and_cost_leave_gold_out(database: Database):
    with database.write() as c:
        adaptive = Adaptive(maximum=3, audited_share=0)
        work = start_batch(c, tasks=4, gold=2, config=BatchConfig(overlap=2, adaptive=adaptive, gold_rate=0.2))
        ada = populate.add_member(c, "Ada")
        while (found := claimed(c, ada)).task_id in set(c.execute(select(gold_key.c.task_id)).scalars()):
            submitted(c, ada, found)
        submitted(c, ada, found)
        ada_has = labeler_counts(c, work.batch_id)
        assert [one.pseudonym for one in ada_has] == ["L-Ada"]
        count = progress(c, work.batch_id)
        assert (count.tasks, count.complete, count.retired, count.asked, count.done, count.leased, count.labelers) == (
            4, 0, 0, 8, 1, 0, 1,
        )  # fmt: skip
        cost = preview_cost(c, work.batch_id, hourly_rate=20)
        assert (cost.tasks, cost.judgments, cost.most, cost.gold, cost.basis) == (4, 7, 11, 2, "reading speed")
        assert cost.seconds.low < cost.seconds.middle < cost.seconds.high
        assert cost.hours.middle == pytest.approx(9 * cost.seconds.middle / 3600)
        assert cost.money is not None
        assert cost.money.high == pytest.approx(20 * cost.hours.high)


def test_cost_is_measured_once_there_are_enough_judgments(sqlite_database: Database):
    with sqlite_database.write() as c:
        work = start_batch(c, tasks=40)
        ada = populate.add_member(c, "Ada")
        for _ in range(30):
            submitted(c, ada, claimed(c, ada))
        cost = preview_cost(c, work.batch_id)
        assert (cost.basis, cost.measured, cost.judgments) == ("measured", 30, 10)
        assert cost.seconds == pytest.approx((1.0, 1.0, 1.0))


# --- invariants -----------------------------------------------------------------------------------------------------


def test_a_healthy_project_has_no_findings_and_each_damage_is_named(database: Database):
    with database.write() as c:
        # The gold question is not given out: damage to it alone would go unnamed, as no agreement is noted for gold.
        start_batch(c, tasks=2, gold=1, config=BatchConfig(overlap=2, gold_rate=0, gold_rate_start=0))
        ada, bob = populate.add_member(c, "Ada"), populate.add_member(c, "Bob")
        first = claimed(c, ada)
        submitted(c, ada, first)
        submitted(c, bob, claimed(c, bob))
        assert invariants(c) == []
    damages = [
        ("UPDATE task SET slots_taken = slots_taken + 1 WHERE slots_taken = 0", "slots and"),
        ("UPDATE task SET status = 'complete' WHERE status = 'open'", "status complete"),
        ("UPDATE task SET overlap = 9 WHERE overlap = 2 AND submitted = 0", "its batch asks for 2"),
        ("UPDATE assignment SET state = 'voided'", "no event says so"),
        ("UPDATE assignment SET shown = '[]'", "does not show each response"),
        ("UPDATE task SET agreement = 0.25 WHERE agreement IS NOT NULL OR submitted > 0", "agreement 0.25 is noted"),
    ]
    with database.write() as c:
        for statement, finding in damages:
            before = c.begin_nested()
            c.exec_driver_sql(statement)
            found = invariants(c)
            assert any(finding in one for one in found), (statement, found)
            before.rollback()
        before = c.begin_nested()
        mine = [shown.id for shown in first.responses]
        foreign = c.execute(select(response.c.id).where(response.c.id.not_in(mine))).scalars().first()
        assert foreign is not None
        populate.add_submission(c, first.id, first.guideline_id, {foreign: 2}, revision=3)
        found = invariants(c)
        assert any("the last is revision 3" in one for one in found)
        assert any("does not show" in one for one in found)
        assert any("tiers have gaps" in one for one in found)
        before.rollback()
        assert invariants(c) == []
