"""Gold questions: scored, explained in training, deciding a qualification, and telling who needs help."""

import pytest
from sqlalchemy import select

import populate
from labeling import SECRET, claimed, in_order, ranked, start_batch, submitted
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.gold.gold import explain, gold_questions, make_gold, qualification, retire_gold
from plaudit.feedback.gold.gold_accuracy import accuracy, gold_accuracy
from plaudit.feedback.people.members import member
from plaudit.feedback.store.database import Database
from plaudit.feedback.store.tables import gold_key, gold_result, task
from plaudit.feedback.tasks.answers import RankingAnswer
from plaudit.feedback.tasks.batches import BatchConfig
from plaudit.feedback.tasks.expected import Constraint, Expected, FlagRule, checks, score
from plaudit.feedback.upkeep.invariants import invariants
from plaudit.feedback.work.assignment import claim
from plaudit.feedback.work.submissions import undo

A_OVER_B = Constraint(better="a", worse="b", weight=3)


@pytest.mark.parametrize(
    ("tiers", "flags", "expected"),
    [
        ({"a": 1, "b": 2}, {"b": ["false"]}, 1.0),
        ({"a": 1, "b": 1}, {"b": ["false"]}, 3.5 / 5),
        ({"a": 2, "b": 1}, {"b": ["false"]}, 2 / 5),
        ({"a": 1, "b": 2}, {}, 4 / 5),
        ({"a": 1, "b": 2}, {"b": ["false"], "a": ["rude"]}, 4 / 5),
        ({}, {}, 1 / 5),
    ],
)
def test_a_score_is_the_weighted_share_that_was_met(tiers, flags, expected: float):
    key = Expected(
        constraints=(A_OVER_B,),
        required=(FlagRule(response="b", flag="false"),),
        forbidden=(FlagRule(response="a", flag="rude"),),
    )
    assert score(key, tiers, flags) == pytest.approx(expected)
    assert sum(one.weight for one in checks(key, tiers, flags)) == 5


def test_a_key_that_asks_nothing_or_the_impossible_is_refused():
    with pytest.raises(ValueError, match="everybody passes"):
        Expected(forbidden=(FlagRule(response="a", flag="rude"),))
    with pytest.raises(ValueError, match="both above and below"):
        Expected(constraints=(A_OVER_B, Constraint(better="b", worse="a")))


def test_every_answer_to_gold_is_scored_and_the_last_revision_counts(database: Database):
    with database.write() as c:
        start_batch(c, tasks=0, gold=1, config=BatchConfig(gold_rate=0.25, gold_rate_start=0.25))
        # Whose first task is gold, nobody can know in advance.
        people = (populate.add_member(c, f"P{number}") for number in range(100))
        ada, found = next((person, found) for person in people if (found := claim(c, person, secret=SECRET)))
        receipt = submitted(c, ada, found, ranked(found, reverse=True))
        undo(c, ada, receipt.submission_id)
        submitted(c, ada, claimed(c, ada))
        assert sorted(c.execute(select(gold_result.c.score)).scalars()) == [0, 1]
        (one,) = gold_accuracy(c)
        assert (one.answers, one.passed, one.concern) == (1, 1, False)
        assert invariants(c) == []


def test_training_explains_and_only_what_was_submitted(database: Database):
    with database.write() as c:
        start_batch(c, tasks=1, name="Work")
        start_batch(c, tasks=0, gold=1, name="Training", purpose="training")
        ada = populate.add_member(c, "Ada", state="training")
        bob = populate.add_member(c, "Bob")
        found = claimed(c, ada, purpose="training")
        for person, assignment_id in ((ada, found.id), (bob, found.id), (ada, "0" * 32)):
            with pytest.raises(FeedbackError) as caught:
                explain(c, person, assignment_id)
            assert caught.value.status == 404
        one, two, three = sorted(shown.id for shown in found.responses)
        submitted(c, ada, found, RankingAnswer({one: 1, two: 1, three: 2}))
        told = explain(c, ada, found.id)
        assert (told.score, told.passed, told.explanation) == (0.75, False, "Look closer.")
        assert [check.met for check in told.checks] == [0.5, 1.0]
        work = claimed(c, bob)
        submitted(c, bob, work)
        with pytest.raises(FeedbackError):
            explain(c, bob, work.id)
        assert gold_accuracy(c) == []  # training is not held against anybody


@pytest.mark.parametrize(("wrong", "state"), [(0, "qualified"), (1, "qualified"), (2, "training")])
def test_a_passed_qualification_qualifies(database: Database, wrong: int, state: str):
    with database.write() as c:
        config = BatchConfig(pass_mark=0.75)
        batch = start_batch(c, tasks=0, gold=4, config=config, purpose="qualification")
        ada = populate.add_member(c, "Ada", state="training")
        for number in range(4):
            assert member(c, ada).state == "training"
            found = claimed(c, ada, purpose="qualification")
            receipt = submitted(c, ada, found, ranked(found, reverse=number < wrong))
            with pytest.raises(FeedbackError) as caught:
                undo(c, ada, receipt.submission_id)
            assert caught.value.code == "final"
        result = qualification(c, ada, batch.batch_id)
        assert (result.done, result.total, result.mean, result.passed) == (4, 4, (4 - wrong) / 4, wrong < 2)
        assert member(c, ada).state == state
        assert claim(c, ada, secret=SECRET, purpose="qualification") is None


def test_an_ordinary_task_becomes_gold_and_what_was_answered_is_scored(database: Database):
    with database.write() as c:
        start_batch(c, tasks=1, config=BatchConfig(overlap=2))
        people = [populate.add_member(c, f"P{number}") for number in range(2)]
        for number, person in enumerate(people):
            found = claimed(c, person)
            submitted(c, person, found, ranked(found, reverse=number == 1))
        ids = sorted(shown.id for shown in found.responses)
        with pytest.raises(FeedbackError, match="does not show"):
            make_gold(c, found.task_id, in_order(["x", "y"]), "", by=None)
        make_gold(c, found.task_id, in_order(ids), "", by=None)
        assert sorted(c.execute(select(gold_result.c.score)).scalars()) == [0, 1]
        assert invariants(c) == []
        (question,) = gold_questions(c)
        assert (question.answers, question.passed, question.doubtful, question.retired) == (2, 1, False, False)
        retire_gold(c, found.task_id, by=None)
        assert gold_accuracy(c) == []
        assert c.execute(select(task.c.status)).scalar() == "retired"
        assert c.execute(select(gold_key.c.retired_at)).scalar() is not None
        assert invariants(c) == []


def test_a_question_that_many_fail_is_doubtful(sqlite_database: Database):
    with sqlite_database.write() as c:
        start_batch(c, tasks=0, gold=1, purpose="training")
        for number in range(6):
            person = populate.add_member(c, f"P{number}")
            found = claimed(c, person, purpose="training")
            submitted(c, person, found, ranked(found, reverse=number < 3))
        assert gold_questions(c)[0].doubtful


def test_concern_needs_certainty_and_enough_answers():
    assert not accuracy("", "", 7, 0).concern
    assert accuracy("", "", 8, 2).concern
    assert not accuracy("", "", 8, 5).concern
    assert not accuracy("", "", 100, 68).concern
    assert accuracy("", "", 100, 55).concern
    fair = accuracy("", "", 20, 18)
    # Beta(19, 3): quantiles from tables.
    assert (fair.mean, fair.low, fair.high) == pytest.approx((19 / 22, 0.6962, 0.9695), abs=1e-3)
