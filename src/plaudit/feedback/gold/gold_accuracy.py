"""How well each labeler answers gold questions, and when that is a reason to talk to them."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from plaudit.feedback.quality.numerics import beta_below, beta_quantiles
from plaudit.feedback.store.tables import assignment, batch, gold_key, gold_result, member, submission, task
from plaudit.feedback.tasks.effective import is_effective

CONCERN_BELOW, CONCERN_CERTAINTY, CONCERN_ANSWERS = 0.7, 0.95, 8


@dataclass(frozen=True, slots=True)
class GoldAccuracy:
    """A labeler's share of gold questions answered well, with its 95 % credible interval under a Beta(1, 1) prior.

    concern: accuracy is below 0.7 with more than 95 % probability, after at least 8 answers: time to talk. Nothing
             happens by itself.
    """

    member_id: str
    pseudonym: str
    answers: int
    passed: int
    mean: float
    low: float
    high: float
    concern: bool


def gold_accuracy(c: Connection, *, batch_id: str | None = None) -> list[GoldAccuracy]:
    """Every labeler who has met a gold question in work, those of concern first. Retired keys do not count."""
    passed = func.count().filter(gold_result.c.passed)
    query = (
        select(member.c.id, member.c.pseudonym, func.count().label("answers"), passed.label("passed"))
        .select_from(gold_key)
        .join(task, task.c.id == gold_key.c.task_id)
        .join(batch, batch.c.id == task.c.batch_id)
        .join(assignment, assignment.c.task_id == task.c.id)
        .join(member, member.c.id == assignment.c.member_id)
        .join(submission, submission.c.assignment_id == assignment.c.id)
        .join(gold_result, gold_result.c.submission_id == submission.c.id)
        .where(
            gold_key.c.retired_at.is_(None),
            batch.c.purpose == "work",
            assignment.c.state == "submitted",
            is_effective(submission),
        )
        .group_by(member.c.id, member.c.pseudonym)
    )
    if batch_id is not None:
        query = query.where(task.c.batch_id == batch_id)
    found = [accuracy(*row) for row in c.execute(query)]
    return sorted(found, key=lambda one: (not one.concern, one.mean, one.pseudonym))


def accuracy(member_id: str, pseudonym: str, answers: int, passed: int) -> GoldAccuracy:
    """The Beta posterior of an accuracy after `passed` of `answers`."""
    a, b = 1 + passed, 1 + answers - passed
    low, high = beta_quantiles(a, b, (0.025, 0.975))
    concern = answers >= CONCERN_ANSWERS and beta_below(CONCERN_BELOW, a, b) > CONCERN_CERTAINTY
    return GoldAccuracy(member_id, pseudonym, answers, passed, a / (a + b), low, high, concern)
