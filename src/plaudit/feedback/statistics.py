"""The statistics of a project as pages show them: computed again when judgments changed, and never at the price of the
work that goes on meanwhile.
"""

import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from plaudit.feedback.bias.effects import Effect, adjust
from plaudit.feedback.bias.reward_probe import reward_probe
from plaudit.feedback.bias.scores import Scores, machine_outcomes
from plaudit.feedback.bias.suggestion import suggestion
from plaudit.feedback.data.judgments import load_judgments
from plaudit.feedback.people.members import Kind
from plaudit.feedback.privacy.groups import shown_answers
from plaudit.feedback.project import Project
from plaudit.feedback.quality.outcomes import first_judgments, outcomes
from plaudit.feedback.quality.records import Judgment
from plaudit.feedback.quality.report import Quality, report
from plaudit.feedback.settings import ProjectSettings
from plaudit.feedback.store import clock
from plaudit.feedback.store.tables import (
    assignment,
    batch,
    gold_result,
    group_answer,
    member,
    submission,
    submission_event,
    task,
)
from plaudit.feedback.tasks.effective import is_effective

NEWEST = 10_000
"""Judgments that the figures of a page are made of, at most; `plaudit quality` takes all."""
PATIENCE = 20
"""Figures that took t seconds are kept for this many times t, whatever is submitted meanwhile: 5 % of the time."""
QUICK_S = 1.0
"""What takes no longer is computed whenever something changed."""


class Wanted(NamedTuple):
    """Whose judgments: of one kind of labelers, in one batch or in all that are for work."""

    kind: Kind
    batch_id: str | None = None


@dataclass(frozen=True, slots=True)
class Statistics:
    """qualities: one a criterion. judgments: used, of `total` that there are. computed_at: milliseconds UTC."""

    qualities: tuple[Quality, ...]
    judgments: int
    total: int
    computed_at: int


class _Kept(NamedTuple):
    version: str
    until: float
    found: Statistics | None


class StatisticsCache:
    """Results by what was asked for. One is computed at a time: two would only take each other's processor."""

    def __init__(self) -> None:
        self._kept: dict[Wanted, _Kept] = {}
        self._lock = threading.Lock()

    def get(self, project: Project, wanted: Wanted) -> Statistics | None:
        """The statistics; None if there are no such judgments."""
        with self._lock:
            kept = self._kept.get(wanted)
            if kept is not None and time.monotonic() < kept.until:
                return kept.found
            settings = project.settings()
            with project.database.read() as connection:
                version = data_version(connection, settings)
            if kept is not None and kept.version == version:
                return kept.found
            started = time.monotonic()
            found = compute(project, wanted)
            took = time.monotonic() - started
            until = time.monotonic() + PATIENCE * took if took > QUICK_S else 0.0
            self._kept[wanted] = _Kept(version, until, found)
            return found


def compute(project: Project, wanted: Wanted) -> Statistics | None:
    """The statistics of the newest judgments, with the groups that may be shown; None if there are none."""
    settings = project.settings()
    with project.database.read() as connection:
        total = judgments_by_kind(connection, wanted.batch_id).get(wanted.kind, 0)
        judgments = chosen_judgments(connection, wanted)
        # Of all batches together only: who is in one batch and not in another would tell of single people.
        answers = None if wanted.batch_id else shown_answers(connection, project.secrets, settings)
    if not judgments:
        return None
    found = report(judgments, answers=answers, smallest_group=settings.smallest_group)
    return Statistics(tuple(found), len(judgments), total, clock.now())


def chosen_judgments(c: Connection, wanted: Wanted) -> list[Judgment]:
    """The newest judgments, at most `NEWEST`."""
    batches = None if wanted.batch_id is None else [wanted.batch_id]
    return load_judgments(c, batches=batches, kinds=(wanted.kind,), newest=NEWEST)


def reward_audit(judgments: Sequence[Judgment], scores: Scores) -> list[Effect]:
    """What a reward model's scores do with position, length and format, beside what people do on the same pairs."""
    firsts = first_judgments(judgments)
    return adjust(reward_probe(firsts, outcomes(firsts), scores))


def suggestion_audit(judgments: Sequence[Judgment], scores: Scores) -> list[Effect]:
    """Who agrees with a machine's scores, more than the others do on the same pairs."""
    firsts = first_judgments(judgments)
    table = outcomes(firsts)
    return adjust(suggestion(table, machine_outcomes(firsts, table, scores)))


def judgments_by_kind(c: Connection, batch_id: str | None = None) -> dict[Kind, int]:
    """Rankings that count, of batches for work, by kind of labeler; the most frequent kind first."""
    count = func.count().label("judgments")
    query = (
        select(member.c.kind, count)
        .join(assignment, assignment.c.member_id == member.c.id)
        .join(submission, submission.c.assignment_id == assignment.c.id)
        .join(task, task.c.id == assignment.c.task_id)
        .join(batch, batch.c.id == task.c.batch_id)
        .where(
            batch.c.kind == "ranking",
            batch.c.purpose == "work",
            assignment.c.state == "submitted",
            is_effective(submission),
        )
        .group_by(member.c.kind)
        .order_by(count.desc())
    )
    if batch_id is not None:
        query = query.where(batch.c.id == batch_id)
    return {row.kind: row.judgments for row in c.execute(query)}


def data_version(c: Connection, settings: ProjectSettings) -> str:
    """Changes whenever a figure may change: a judgment more, an event about one, a score, an answer about a group."""
    parts: list[Any] = [
        tuple(c.execute(select(func.count(), func.max(table.c.created_at)).select_from(table)).one())
        for table in (submission, submission_event, gold_result)
    ]
    parts.append(sorted(tuple(row) for row in c.execute(select(group_answer))))
    parts.append((settings.group_questions, settings.smallest_group))
    return hashlib.sha256(repr(parts).encode()).hexdigest()
