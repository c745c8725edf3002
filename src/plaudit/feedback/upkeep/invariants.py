"""What must be true of a project's database at any moment, counted again from the rows.

Constraints and triggers already refuse most of it; this finds what they cannot say, and a database that was changed
past them. `plaudit verify` and the tests call it.
"""

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, or_, select
from sqlalchemy import text as sql_text

from plaudit.feedback.store.tables import (
    adjudication,
    assignment,
    batch,
    flag_entry,
    gold_key,
    gold_result,
    ranking_entry,
    submission,
    submission_event,
    submission_text,
    task,
    task_response,
)
from plaudit.feedback.tasks import slots
from plaudit.feedback.tasks.batches import BatchConfig
from plaudit.feedback.tasks.effective import is_effective
from plaudit.feedback.tasks.overlap import agreement

MOST = 20  # findings of one kind that are named one by one
_ROWS = 5_000


def invariants(c: Connection) -> list[str]:
    """Everything that is wrong, one sentence each; an empty list means that all is well."""
    return [finding for check in _CHECKS for finding in _some(check(c))]


def _some(findings: Iterator[str]) -> Iterator[str]:
    for number, finding in enumerate(findings):
        if number == MOST:
            yield f"… and more like the last one (the first {MOST} are named)"
            return
        yield finding


def _counters(c: Connection) -> Iterator[str]:
    """Each task's counters and status are those of its assignments."""
    taken = func.count().filter(assignment.c.state.in_(("leased", "submitted")))
    done = func.count().filter(assignment.c.state == "submitted")
    counted = (
        select(assignment.c.task_id, taken.label("taken"), done.label("done")).group_by(assignment.c.task_id).subquery()
    )
    real_taken, real_done = func.coalesce(counted.c.taken, 0), func.coalesce(counted.c.done, 0)
    full = case((real_done >= task.c.overlap, "complete"), else_="open")
    query = (
        select(task, real_taken.label("taken"), real_done.label("done"))
        .outerjoin(counted, counted.c.task_id == task.c.id)
        .where(
            or_(
                task.c.slots_taken != real_taken,
                task.c.submitted != real_done,
                (task.c.status != "retired") & (task.c.status != full),
            )
        )
    )
    for row in _stream(c, query):
        yield (
            f"task {row.id}: {row.slots_taken} slots and {row.submitted} judgments are noted, status {row.status}, "
            f"overlap {row.overlap}; there are {row.taken} and {row.done}"
        )


def _overlaps(c: Connection) -> Iterator[str]:
    """No task asks for more judgments than its batch, its adaptive rule and late work explain."""
    surplus = (
        select(assignment.c.task_id, func.count().label("count"))
        .where(assignment.c.end_reason == slots.SURPLUS)
        .group_by(assignment.c.task_id)
        .subquery()
    )
    for row in c.execute(select(batch.c.id, batch.c.config)).all():
        config = BatchConfig.model_validate(row.config)
        asked = max(config.overlap, config.adaptive.maximum if config.adaptive else 0)
        # Recorded judgments came as they are; nobody asked for a number of them.
        query = (
            select(task.c.id, task.c.overlap)
            .outerjoin(surplus, surplus.c.task_id == task.c.id)
            .outerjoin(gold_key, gold_key.c.task_id == task.c.id)
            .where(
                task.c.batch_id == row.id,
                gold_key.c.task_id.is_(None),
                ~_recorded(),
                task.c.overlap > asked + func.coalesce(surplus.c.count, 0),
            )
        )
        for found in _stream(c, query):
            yield f"task {found.id}: overlap {found.overlap}, but its batch asks for {asked} at most"


def _states(c: Connection) -> Iterator[str]:
    """An assignment is submitted exactly if a submission of it counts; a voided one's newest was voided."""
    counts = (
        select(submission.c.id).where(submission.c.assignment_id == assignment.c.id, is_effective(submission)).exists()
    )
    query = select(assignment.c.id, assignment.c.state).where((assignment.c.state == "submitted") != counts)
    for row in _stream(c, query):
        what = "no submission of it counts" if row.state == "submitted" else "a submission of it counts"
        yield f"assignment {row.id} is {row.state}, but {what}"
    last = (
        select(submission_event.c.kind)
        .join(submission, submission.c.id == submission_event.c.submission_id)
        .where(submission.c.assignment_id == assignment.c.id)
        .order_by(submission_event.c.created_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    voided = func.coalesce(last, "") == "voided"
    for row in _stream(
        c, select(assignment.c.id, assignment.c.state).where((assignment.c.state == "voided") & ~voided)
    ):
        yield f"assignment {row.id} is voided, but no event says so"


def _revisions(c: Connection) -> Iterator[str]:
    """Revisions of an assignment count from 1 without gaps."""
    query = (
        select(submission.c.assignment_id, func.count().label("count"), func.max(submission.c.revision).label("last"))
        .group_by(submission.c.assignment_id)
        .having(func.count() != func.max(submission.c.revision))
    )
    for row in _stream(c, query):
        yield f"assignment {row.assignment_id} has {row.count} submissions, and the last is revision {row.last}"


def _rankings(c: Connection) -> Iterator[str]:
    """Each ranking gives every response of its task exactly one tier; tiers count from 1 without gaps."""
    asked = (
        select(func.count()).where(task_response.c.task_id == assignment.c.task_id).correlate(assignment)
    ).scalar_subquery()
    tiers = (
        select(
            ranking_entry.c.submission_id,
            func.count().label("entries"),
            func.min(ranking_entry.c.tier).label("first"),
            func.max(ranking_entry.c.tier).label("last"),
            func.count(ranking_entry.c.tier.distinct()).label("distinct"),
        )
        .group_by(ranking_entry.c.submission_id)
        .subquery()
    )
    entries = func.coalesce(tiers.c.entries, 0)
    wrong = or_(
        (entries != asked) & ~((submission.c.outcome == "none_acceptable") & (entries == 0)),
        tiers.c.first != 1,
        tiers.c.last != tiers.c.distinct,
    )
    query = (
        select(submission.c.id, entries.label("entries"), asked.label("asked"))
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .outerjoin(tiers, tiers.c.submission_id == submission.c.id)
        .where(wrong)
    )
    for row in _stream(c, query):
        yield f"submission {row.id}: {row.entries} of {row.asked} responses have a tier, or the tiers have gaps"
    for table in (ranking_entry, flag_entry):
        query = (
            select(table.c.submission_id, table.c.response_id)
            .join(submission, submission.c.id == table.c.submission_id)
            .join(assignment, assignment.c.id == submission.c.assignment_id)
            .where(
                ~select(task_response)
                .where(
                    task_response.c.task_id == assignment.c.task_id, task_response.c.response_id == table.c.response_id
                )
                .exists()
            )
        )
        for row in _stream(c, query):
            yield f"submission {row.submission_id} judges response {row.response_id}, which its task does not show"


def _demonstrations(c: Connection) -> Iterator[str]:
    """Each demonstration has its words, or a note that they were erased."""
    written = (
        select(submission_text.c.submission_id)
        .where(submission_text.c.submission_id == submission.c.id, submission_text.c.field == "demonstration")
        .exists()
    )
    query = (
        select(submission.c.id, batch.c.kind)
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .join(task, task.c.id == assignment.c.task_id)
        .join(batch, batch.c.id == task.c.batch_id)
        .where((batch.c.kind == "demonstration") != written)
    )
    for row in _stream(c, query):
        what = "no" if row.kind == "demonstration" else "a"
        yield f"submission {row.id} of a {row.kind} batch has {what} written answer"


def _shown(c: Connection) -> Iterator[str]:
    """Each labeler was shown the responses of the task, each once."""
    responses = (
        select(func.count()).where(task_response.c.task_id == assignment.c.task_id).correlate(assignment)
    ).scalar_subquery()
    length = _json_length(c, "assignment.shown")
    query = (
        select(assignment.c.id)
        .join(task, task.c.id == assignment.c.task_id)
        .where(length != responses, ~((length == 0) & _recorded()))
    )
    for row in _stream(c, query):
        yield f"assignment {row.id} does not show each response of its task once"
    parts = "json_each(a.shown)" if c.dialect.name == "sqlite" else "jsonb_array_elements_text(a.shown) AS part(value)"
    foreign = sql_text(
        f"SELECT a.id FROM assignment a, {parts} WHERE NOT EXISTS "
        "(SELECT 1 FROM task_response r WHERE r.task_id = a.task_id AND r.response_id = value)"
    )
    for row in c.execute(foreign):
        yield f"assignment {row.id} shows a response that its task does not have"


def _agreements(c: Connection) -> Iterator[str]:
    """The agreement noted with a task is that of its rankings."""
    query = (
        select(
            task.c.id, task.c.agreement, submission.c.id.label("one"), ranking_entry.c.response_id, ranking_entry.c.tier
        )
        .join(batch, batch.c.id == task.c.batch_id)
        .outerjoin(gold_key, gold_key.c.task_id == task.c.id)
        .join(assignment, assignment.c.task_id == task.c.id)
        .join(submission, submission.c.assignment_id == assignment.c.id)
        .outerjoin(ranking_entry, ranking_entry.c.submission_id == submission.c.id)
        .where(
            batch.c.kind == "ranking",
            gold_key.c.task_id.is_(None),
            assignment.c.state == "submitted",
            is_effective(submission),
        )
        .order_by(task.c.id, submission.c.id)
    )
    current: Any = None
    rankings: dict[str, dict[str, int]] = {}
    for row in _stream(c, query):
        if current is not None and row.id != current.id:
            yield from _disagreement(current, rankings)
            rankings = {}
        current = row
        tiers = rankings.setdefault(row.one, {})
        if row.response_id is not None:
            tiers[row.response_id] = row.tier
    if current is not None:
        yield from _disagreement(current, rankings)


def _disagreement(row: Any, rankings: dict[str, dict[str, int]]) -> Iterator[str]:
    ranked = [rankings[name] for name in sorted(rankings)]
    if len({frozenset(tiers) for tiers in ranked if tiers}) > 1:
        return  # somebody's ranking is incomplete, which is named above
    found = agreement(ranked)
    if (found is None) != (row.agreement is None) or (found is not None and abs(found - row.agreement) > 1e-9):
        yield f"task {row.id}: agreement {row.agreement} is noted, and {found} comes out of its rankings"


def _gold(c: Connection) -> Iterator[str]:
    """Only gold questions have results, and each counted answer to a live one has."""
    query = (
        select(gold_result.c.submission_id)
        .join(submission, submission.c.id == gold_result.c.submission_id)
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .outerjoin(gold_key, gold_key.c.task_id == assignment.c.task_id)
        .where(gold_key.c.task_id.is_(None))
    )
    for row in _stream(c, query):
        yield f"submission {row.submission_id} has a gold result, but its task is no gold question"
    query = (
        select(submission.c.id)
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .join(gold_key, gold_key.c.task_id == assignment.c.task_id)
        .outerjoin(gold_result, gold_result.c.submission_id == submission.c.id)
        .where(gold_key.c.retired_at.is_(None), gold_result.c.submission_id.is_(None))
    )
    for row in _stream(c, query):
        yield f"submission {row.id} answers a gold question and has no result"


def _reviewers(c: Connection) -> Iterator[str]:
    """Nobody adjudicates a task that they have judged themselves."""
    query = (
        select(adjudication.c.id)
        .join(
            assignment,
            (assignment.c.task_id == adjudication.c.task_id) & (assignment.c.member_id == adjudication.c.member_id),
        )
        .join(submission, submission.c.assignment_id == assignment.c.id)
        .where(submission.c.created_at <= adjudication.c.created_at)
        .distinct()
    )
    for row in _stream(c, query):
        yield f"adjudication {row.id} is by somebody who had judged the task"


def _recorded() -> ColumnElement[bool]:
    """Whether a task holds judgments imported from elsewhere, whose order on the screen may be unknown."""
    return func.coalesce(task.c.selection["policy"].as_string(), "") == "recorded"


def _stream(c: Connection, query: Select[*tuple[Any, ...]]) -> Any:
    return c.execute(query.execution_options(yield_per=_ROWS))


def _json_length(c: Connection, column: str) -> ColumnElement[int]:
    function = func.json_array_length if c.dialect.name == "sqlite" else func.jsonb_array_length
    return function(sql_text(column))


_CHECKS: tuple[Callable[[Connection], Iterator[str]], ...] = (
    _counters,
    _overlaps,
    _states,
    _revisions,
    _rankings,
    _demonstrations,
    _shown,
    _agreements,
    _gold,
    _reviewers,
)
