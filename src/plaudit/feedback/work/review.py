"""Where people disagree, flag or give up: a reviewer looks at their answers side by side and decides.

A decision is a judgment of its own beside theirs (`adjudication`). Voiding a submission is an event; it frees the slot,
and can be taken back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import Connection, func, insert, select, update

from plaudit.core.records import Prompt
from plaudit.feedback import audit_log
from plaudit.feedback.content.content import prompt_start, read_prompt
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.people import members
from plaudit.feedback.store import clock
from plaudit.feedback.store.tables import (
    adjudication,
    assignment,
    batch,
    flag_entry,
    member,
    new_id,
    prompt,
    submission,
    task,
)
from plaudit.feedback.tasks import slots
from plaudit.feedback.tasks.answers import Answer, RankingAnswer, check_words, checked, load_answers
from plaudit.feedback.tasks.effective import add_event, is_effective, is_newest
from plaudit.feedback.tasks.overlap import after_judgment
from plaudit.feedback.tasks.tasks import Shown, responses_of

Show = Literal["disagreements", "flags", "skips"]
Category = Literal["ambiguous", "mistake", "guideline", "taste", "bad_data"]
CATEGORIES: tuple[Category, ...] = get_args(Category)


class Item(NamedTuple):
    """A task in the review queue. prompt: the start of its last message. own: judged by this reviewer."""

    task_id: str
    batch_id: str
    batch_name: str
    prompt: str
    judgments: int
    agreement: float | None
    flags: int
    skips: int
    own: bool


class CaseJudgment(NamedTuple):
    """The newest answer of one labeler, under their pseudonym. state: "submitted" or "voided"."""

    submission_id: str
    pseudonym: str
    answer: Answer
    revision: int
    seconds: float | None
    at: int
    state: str


class Decision(NamedTuple):
    """What a reviewer decided."""

    pseudonym: str
    tiers: dict[str, int]
    category: Category
    note: str
    at: int


@dataclass(frozen=True, slots=True)
class Case:
    """A task with everybody's answers side by side. own: this reviewer judged it, and so cannot decide."""

    task_id: str
    batch_id: str
    batch_name: str
    kind: str
    prompt: Prompt
    responses: tuple[Shown, ...]
    agreement: float | None
    judgments: tuple[CaseJudgment, ...]
    decisions: tuple[Decision, ...]
    own: bool


def queue(
    c: Connection,
    member_id: str,
    *,
    show: Show = "disagreements",
    batch_id: str | None = None,
    limit: int = 50,
    offset: int = 0,
) -> list[Item]:
    """Tasks that nobody has decided yet: the lowest agreement first, or the most flags, or the most skips.

    Raises FeedbackError "forbidden" for labelers.
    """
    _check_reviewer(c, member_id)
    flags, skips = _flag_count(), _skip_count()
    undecided = ~select(adjudication.c.id).where(adjudication.c.task_id == task.c.id).exists()
    wanted = select(task.c.id).where(undecided).limit(limit).offset(offset)
    if show == "disagreements":
        wanted = wanted.where(task.c.agreement < 1).order_by(task.c.agreement, task.c.id)
    elif show == "flags":
        wanted = wanted.where(flags > 0).order_by(flags.desc(), task.c.id)
    else:
        wanted = wanted.where(skips > 0).order_by(skips.desc(), task.c.id)
    if batch_id is not None:
        wanted = wanted.where(task.c.batch_id == batch_id)
    ids = list(c.execute(wanted).scalars())
    own = (
        select(assignment.c.id)
        .where(assignment.c.task_id == task.c.id, assignment.c.member_id == member_id, assignment.c.state != "expired")
        .exists()
    )
    # Counting for the tasks of one page only: for all tasks of a project it would take seconds.
    rows: Iterable[Any] = c.execute(
        select(task, batch.c.name, prompt.c.messages, flags.label("flags"), skips.label("skips"), own.label("own"))
        .join(batch, batch.c.id == task.c.batch_id)
        .join(prompt, prompt.c.id == task.c.prompt_id)
        .where(task.c.id.in_(ids))
    )
    place = {task_id: number for number, task_id in enumerate(ids)}
    return [
        Item(
            row.id,
            row.batch_id,
            row.name,
            prompt_start(row),
            row.submitted,
            row.agreement,
            row.flags,
            row.skips,
            bool(row.own),
        )
        for row in sorted(rows, key=lambda row: place[row.id])
    ]


def case(c: Connection, member_id: str, task_id: str) -> Case:
    """A task side by side.

    Raises FeedbackError "forbidden" for labelers; "not_found"; "own_work" while the reviewer is working on the task,
    because seeing the others first would spoil the answer.
    """
    _check_reviewer(c, member_id)
    row = c.execute(
        select(task, batch.c.name, batch.c.kind, prompt.c.messages)
        .join(batch, batch.c.id == task.c.batch_id)
        .join(prompt, prompt.c.id == task.c.prompt_id)
        .where(task.c.id == task_id)
    ).first()
    if row is None:
        raise FeedbackError("not_found", "There is no such task.", status=404)
    own = _own_state(c, member_id, task_id)
    if own == "leased":
        raise FeedbackError("own_work", "You are working on this task. Submit or skip it before you see the others.")
    return Case(
        task_id=row.id,
        batch_id=row.batch_id,
        batch_name=row.name,
        kind=row.kind,
        prompt=read_prompt(row),
        responses=responses_of(c, task_id),
        agreement=row.agreement,
        judgments=tuple(_judgments(c, task_id)),
        decisions=tuple(_decisions(c, task_id)),
        own=own in ("submitted", "voided"),
    )


def adjudicate(
    c: Connection, member_id: str, task_id: str, tiers: Mapping[str, int], category: Category, note: str
) -> str:
    """Decide a task: the reviewer's own tiers (empty for demonstrations), why people disagreed, and a note.

    Raises FeedbackError "forbidden", "own_work", "not_found", "decided", "invalid_answer".
    """
    found = case(c, member_id, task_id)
    if found.own:
        raise FeedbackError(
            "own_work", "You have judged this task yourself, so somebody else has to decide.", status=403
        )
    decided = select(adjudication.c.id).where(adjudication.c.task_id == task_id, adjudication.c.member_id == member_id)
    if c.execute(decided).first():
        raise FeedbackError("decided", "You have decided this task already.")
    if category not in CATEGORIES:
        raise FeedbackError("invalid_answer", f"A category is one of {', '.join(CATEGORIES)}.", status=422)
    check_words(note, "note")
    ranking = RankingAnswer(tiers, none_acceptable=found.kind == "demonstration")
    shown = [one.id for one in found.responses]
    answer = checked(ranking, kind="ranking", shown=shown, known_flags=(), reason_required=False)
    assert isinstance(answer, RankingAnswer)
    new = new_id()
    c.execute(
        insert(adjudication).values(
            id=new,
            task_id=task_id,
            member_id=member_id,
            tiers=dict(answer.tiers),
            category=category,
            note=note.strip(),
            created_at=clock.now(),
        )
    )
    audit_log.record(c, "task.adjudicate", "task", task_id, {"category": category}, by=member_id)
    return new


def void(c: Connection, submission_id: str, reason: str, *, by: str) -> None:
    """Let a submission count no more, and give its slot to somebody else.

    Raises FeedbackError "forbidden", "own_work", "not_found", "superseded" or "wrong_state".
    """
    row = _reviewed(c, submission_id, by, "submitted")
    add_event(c, submission_id, "voided", reason[:200], member_id=by)
    c.execute(
        update(assignment)
        .where(assignment.c.id == row.assignment_id)
        .values(state="voided", ended_at=clock.now(), end_reason=None)
    )
    slots.removed(c, row.task_id, surplus=row.end_reason == slots.SURPLUS)
    after_judgment(c, row.task_id)
    audit_log.record(c, "submission.void", "submission", submission_id, by=by)


def restore(c: Connection, submission_id: str, reason: str, *, by: str) -> None:
    """Let a voided submission count again, in its slot if that is still free, else in an additional one.

    Raises FeedbackError like `void`.
    """
    row = _reviewed(c, submission_id, by, "voided")
    add_event(c, submission_id, "restored", reason[:200], member_id=by)
    end_reason = None
    if not slots.take(c, row.task_id):
        slots.take_extra(c, row.task_id)
        end_reason = slots.SURPLUS
    c.execute(
        update(assignment)
        .where(assignment.c.id == row.assignment_id)
        .values(state="submitted", ended_at=clock.now(), end_reason=end_reason)
    )
    slots.submitted(c, row.task_id)
    after_judgment(c, row.task_id)
    audit_log.record(c, "submission.restore", "submission", submission_id, by=by)


def reopen(c: Connection, task_id: str, *, by: str) -> None:
    """Give a task out again that was retired because people skipped it.

    Raises FeedbackError "forbidden", "not_found".
    """
    _check_reviewer(c, by)
    retired = (task.c.id == task_id) & (task.c.status == "retired")
    if c.execute(update(task).where(retired).values(status="open")).rowcount != 1:
        raise FeedbackError("not_found", "There is no such retired task.", status=404)
    full = (task.c.id == task_id) & (task.c.submitted >= task.c.overlap)
    c.execute(update(task).where(full).values(status="complete"))
    audit_log.record(c, "task.reopen", "task", task_id, by=by)


def _check_reviewer(c: Connection, member_id: str) -> None:
    found = members.member(c, member_id)
    if not found.is_at_least("reviewer") or found.state not in ("training", "qualified"):
        raise FeedbackError("forbidden", "Only reviewers see other people's answers.", status=403)


def _own_state(c: Connection, member_id: str, task_id: str) -> str | None:
    query = select(assignment.c.state).where(assignment.c.task_id == task_id, assignment.c.member_id == member_id)
    return c.execute(query).scalar()


def _reviewed(c: Connection, submission_id: str, by: str, state: str) -> Any:
    """The locked assignment and task of the newest submission of somebody else, in the state that is needed."""
    _check_reviewer(c, by)
    row = c.execute(
        select(submission.c.assignment_id, submission.c.revision, assignment)
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .where(submission.c.id == submission_id)
        .with_for_update(of=assignment, key_share=True)
    ).first()
    if row is None:
        raise FeedbackError("not_found", "There is no such submission.", status=404)
    if row.member_id == by:
        raise FeedbackError("own_work", "Nobody reviews their own work.", status=403)
    newest = select(func.max(submission.c.revision)).where(submission.c.assignment_id == row.assignment_id)
    if c.execute(newest).scalar() != row.revision:
        raise FeedbackError("superseded", "There is a newer revision of this answer. Reload the page.")
    if row.state != state:
        raise FeedbackError("wrong_state", f"This work is {row.state}, not {state}. Reload the page.")
    c.execute(select(task.c.id).where(task.c.id == row.task_id).with_for_update(key_share=True))
    return row


def _judgments(c: Connection, task_id: str) -> list[CaseJudgment]:
    rows = c.execute(
        select(submission, assignment.c.state, member.c.pseudonym)
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .join(member, member.c.id == assignment.c.member_id)
        .where(
            assignment.c.task_id == task_id,
            assignment.c.state.in_(("submitted", "voided")),
            is_newest(),
        )
        .order_by(submission.c.created_at, submission.c.id)
    ).all()
    found = load_answers(c, [row.id for row in rows])
    return [
        CaseJudgment(
            row.id,
            row.pseudonym,
            found[row.id],
            row.revision,
            None if row.active_ms is None else row.active_ms / 1000,
            row.created_at,
            row.state,
        )
        for row in rows
    ]


def _decisions(c: Connection, task_id: str) -> list[Decision]:
    rows = c.execute(
        select(adjudication, member.c.pseudonym)
        .join(member, member.c.id == adjudication.c.member_id)
        .where(adjudication.c.task_id == task_id)
        .order_by(adjudication.c.created_at)
    )
    return [Decision(row.pseudonym, row.tiers, row.category, row.note, row.created_at) for row in rows]


def _flag_count() -> Any:
    return (
        select(func.count())
        .select_from(flag_entry)
        .join(submission, submission.c.id == flag_entry.c.submission_id)
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .where(assignment.c.task_id == task.c.id, assignment.c.state == "submitted", is_effective(submission))
        .correlate(task)
        .scalar_subquery()
    )


def _skip_count() -> Any:
    return (
        select(func.count())
        .select_from(assignment)
        .where(assignment.c.task_id == task.c.id, assignment.c.state == "skipped")
        .correlate(task)
        .scalar_subquery()
    )
