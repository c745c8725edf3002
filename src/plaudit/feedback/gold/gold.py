"""Gold questions at work: keys, scores, explained training, and qualification.

No query for a labeler's page joins `gold_key`; what is here is for submitting, for training pages and for admins.
"""

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, func, insert, select, update

from plaudit.feedback import audit_log
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.people import members
from plaudit.feedback.store import clock
from plaudit.feedback.store.tables import (
    EVERYBODY,
    assignment,
    batch,
    gold_key,
    gold_result,
    submission,
    task,
    task_response,
)
from plaudit.feedback.tasks.answers import Answer, RankingAnswer, load_answers
from plaudit.feedback.tasks.batches import get_batch
from plaudit.feedback.tasks.effective import is_effective
from plaudit.feedback.tasks.expected import Check, Expected, checks, score

PASS = 0.8  # score at which one gold question counts as answered well
DOUBTFUL_SHARE, DOUBTFUL_ANSWERS = 0.4, 5


# --- keys -----------------------------------------------------------------------------------------------------------


def make_gold(c: Connection, task_id: str, expected: Expected, explanation: str, *, by: str | None) -> None:
    """Make an ordinary ranking task a gold question. Answers it has already are scored.

    Raises FeedbackError "not_found", "is_gold" or "invalid_task".
    """
    row = c.execute(select(task.c.batch_id).where(task.c.id == task_id).with_for_update(key_share=True)).first()
    if row is None:
        raise FeedbackError("not_found", f"There is no task {task_id}.", status=404)
    if c.execute(select(gold_key.c.task_id).where(gold_key.c.task_id == task_id)).first():
        raise FeedbackError("is_gold", "This task has an expected answer already. Retire it, then make a new one.")
    shown = set(c.execute(select(task_response.c.response_id).where(task_response.c.task_id == task_id)).scalars())
    if missing := expected.response_ids() - shown:
        raise FeedbackError(
            "invalid_task", f"The task does not show {', '.join(sorted(missing))}. Name its own responses.", status=422
        )
    c.execute(
        insert(gold_key).values(
            task_id=task_id,
            expected=expected.model_dump(mode="json"),
            explanation=explanation,
            created_by=by,
            created_at=clock.now(),
        )
    )
    c.execute(update(task).where(task.c.id == task_id).values(overlap=EVERYBODY, status="open", agreement=None))
    given = c.execute(
        select(submission.c.id)
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .where(assignment.c.task_id == task_id)
    ).scalars()
    for submission_id, answer in load_answers(c, list(given)).items():
        score_submission(c, task_id, submission_id, answer)
    audit_log.record(c, "gold.create", "task", task_id, by=by)


def retire_gold(c: Connection, task_id: str, *, by: str | None) -> None:
    """Give a gold question to nobody any more, and leave its results out of everybody's accuracy: the key was wrong.

    Raises FeedbackError "not_found".
    """
    live = (gold_key.c.task_id == task_id) & gold_key.c.retired_at.is_(None)
    if c.execute(update(gold_key).where(live).values(retired_at=clock.now())).rowcount != 1:
        raise FeedbackError("not_found", "There is no such gold question, or it is retired already.", status=404)
    c.execute(update(task).where(task.c.id == task_id).values(status="retired"))
    audit_log.record(c, "gold.retire", "task", task_id, by=by)


def score_submission(c: Connection, task_id: str, submission_id: str, answer: Answer) -> None:
    """Store the score of a submission if its task is a gold question."""
    key = c.execute(_LIVE_KEY, {"task_id": task_id}).scalar()
    if key is None or not isinstance(answer, RankingAnswer):
        return
    value = score(Expected.model_validate(key), answer.tiers, _flags(answer))
    c.execute(
        insert(gold_result).values(
            submission_id=submission_id, score=value, passed=value >= PASS, created_at=clock.now()
        )
    )


_LIVE_KEY = select(gold_key.c.expected).where(
    gold_key.c.task_id == bindparam("task_id"), gold_key.c.retired_at.is_(None)
)


class GoldQuestion(NamedTuple):
    """A gold question in the workshop. `doubtful`: so many fail it that its key is more likely wrong than they are."""

    task_id: str
    batch_id: str
    expected: Expected
    explanation: str
    retired: bool
    answers: int
    passed: int
    doubtful: bool


def gold_questions(c: Connection, *, batch_id: str | None = None) -> list[GoldQuestion]:
    """All gold questions with how they are answered, the most failed first."""
    query = (
        select(
            gold_key,
            task.c.batch_id,
            func.count(gold_result.c.submission_id).label("answers"),
            func.count().filter(gold_result.c.passed).label("passed"),
        )
        .join(task, task.c.id == gold_key.c.task_id)
        .outerjoin(assignment, and_(assignment.c.task_id == task.c.id, assignment.c.state == "submitted"))
        .outerjoin(submission, and_(submission.c.assignment_id == assignment.c.id, is_effective(submission)))
        .outerjoin(gold_result, gold_result.c.submission_id == submission.c.id)
        .group_by(gold_key.c.task_id, task.c.batch_id)
    )
    if batch_id is not None:
        query = query.where(task.c.batch_id == batch_id)
    found = [
        GoldQuestion(
            row.task_id,
            row.batch_id,
            Expected.model_validate(row.expected),
            row.explanation,
            row.retired_at is not None,
            row.answers,
            row.passed,
            doubtful=row.answers >= DOUBTFUL_ANSWERS and 1 - row.passed / row.answers > DOUBTFUL_SHARE,
        )
        for row in c.execute(query)
    ]
    return sorted(found, key=lambda one: (one.retired, one.passed / one.answers if one.answers else 1, one.task_id))


# --- training and qualification -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Explained:
    """What a labeler is told after a training question: part by part, and why."""

    score: float
    passed: bool
    checks: tuple[Check, ...]
    explanation: str


def explain(c: Connection, member_id: str, assignment_id: str) -> Explained:
    """The expected answer of a training question that this labeler has submitted.

    Raises FeedbackError "not_found" (404) for everything else, so that nobody learns which tasks are gold.
    """
    row = c.execute(
        select(gold_key, submission.c.id)
        .join(task, task.c.id == gold_key.c.task_id)
        .join(batch, batch.c.id == task.c.batch_id)
        .join(assignment, assignment.c.task_id == task.c.id)
        .join(submission, submission.c.assignment_id == assignment.c.id)
        .where(
            assignment.c.id == assignment_id,
            assignment.c.member_id == member_id,
            assignment.c.state == "submitted",
            batch.c.purpose == "training",
            is_effective(submission),
        )
    ).first()
    if row is None:
        raise FeedbackError("not_found", "There is nothing to explain here.", status=404)
    answer = load_answers(c, [row.id])[row.id]
    assert isinstance(answer, RankingAnswer), "batches refuse gold questions that ask for demonstrations"
    expected = Expected.model_validate(row.expected)
    parts = tuple(checks(expected, answer.tiers, _flags(answer)))
    value = score(expected, answer.tiers, _flags(answer))
    return Explained(value, value >= PASS, parts, row.explanation)


class Qualification(NamedTuple):
    """A labeler's result in one qualification batch. `mean` is None before the first answer."""

    batch_id: str
    done: int
    total: int
    mean: float | None
    pass_mark: float

    @property
    def finished(self) -> bool:
        return self.total > 0 and self.done >= self.total

    @property
    def passed(self) -> bool:
        return self.finished and self.mean is not None and self.mean >= self.pass_mark


def qualification(c: Connection, member_id: str, batch_id: str) -> Qualification:
    """How a labeler stands in a qualification batch.

    Raises FeedbackError "not_found".
    """
    found = get_batch(c, batch_id)
    live = (task.c.batch_id == batch_id) & (task.c.status != "retired")
    total = c.execute(select(func.count()).select_from(task).where(live)).scalar_one()
    done, mean = c.execute(
        select(func.count(), func.avg(gold_result.c.score))
        .select_from(assignment)
        .join(task, task.c.id == assignment.c.task_id)
        .join(submission, submission.c.assignment_id == assignment.c.id)
        .join(gold_result, gold_result.c.submission_id == submission.c.id)
        .where(live, assignment.c.member_id == member_id, assignment.c.state == "submitted", is_effective(submission))
    ).one()
    return Qualification(batch_id, done, total, None if mean is None else float(mean), found.config.pass_mark)


def qualify(c: Connection, member_id: str, batch_id: str) -> None:
    """Move a member in training to `qualified` if the batch is finished and passed."""
    if members.member(c, member_id).state == "training" and qualification(c, member_id, batch_id).passed:
        members.set_state(c, member_id, "qualified", by=None)


def _flags(answer: RankingAnswer) -> dict[str, list[str]]:
    return {name: list(raised) for name, raised in answer.flags.items()}
