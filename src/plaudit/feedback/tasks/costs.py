"""What a batch will cost in time and money, before it is run."""

import math
import statistics
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sqlalchemy import Connection, case, func, select

from plaudit.feedback.store.tables import assignment, batch, gold_key, prompt, response, submission, task, task_response
from plaudit.feedback.tasks.batches import Batch, get_batch
from plaudit.feedback.tasks.effective import is_effective

MIN_MEASURED = 30  # judgments below which reading speed says more than the project's own times
_NEWEST = 2_000
# Silent reading of English non-fiction: most adults read 175 to 300 words a minute, 238 on average (Brysbaert 2019,
# "How many words do we read per minute?", Journal of Memory and Language 109). With a space a word has six characters.
_CHARS_A_MINUTE = (300 * 6, 238 * 6, 175 * 6)
_HANDLING_S = 10.0  # of a ranking, besides reading
_WRITING_S = (120.0, 300.0, 900.0)  # of a demonstration: an assumption, until some were written


class Range(NamedTuple):
    """A quantity with the bounds between which it is expected."""

    low: float
    middle: float
    high: float

    def times(self, factor: float) -> "Range":
        return Range(self.low * factor, self.middle * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Cost:
    """Work that is left in a batch.

    judgments: asked and not yet given, without gold questions.
    most:      the same if people disagree on every task (adaptive overlap).
    gold:      gold questions expected on top.
    seconds:   of one judgment; hours and money are for `judgments + gold`.
    basis:     "measured": mean active time of `measured` judgments of this project, with its 95 % interval;
               "reading speed": an estimate from the lengths of the texts, with the range among readers.
    """

    tasks: int
    judgments: int
    most: int
    gold: int
    seconds: Range
    hours: Range
    money: Range | None
    basis: Literal["measured", "reading speed"]
    measured: int


def preview_cost(c: Connection, batch_id: str, *, hourly_rate: float | None = None) -> Cost:
    """The work left in a batch, from the project's own times where there are enough.

    Raises FeedbackError "not_found".
    """
    found = get_batch(c, batch_id)
    ordinary = (task.c.batch_id == batch_id) & ~select(gold_key).where(gold_key.c.task_id == task.c.id).exists()
    most = found.config.adaptive.maximum if found.config.adaptive else 1
    ceiling = case((task.c.overlap > most, task.c.overlap), else_=most)
    tasks, judgments, at_most = c.execute(
        select(
            func.count(),
            func.coalesce(func.sum(task.c.overlap - task.c.submitted), 0),
            func.coalesce(func.sum(ceiling - task.c.submitted), 0),
        ).where(ordinary, task.c.status == "open")
    ).one()
    rate = found.config.gold_rate
    gold = round(int(judgments) * rate / (1 - rate)) if _has_gold(c, batch_id) else 0
    times = _times(c, found)
    measured = len(times) >= MIN_MEASURED
    seconds = _mean(times) if measured else _estimate(c, found)
    hours = seconds.times((int(judgments) + gold) / 3600)
    return Cost(
        tasks=int(tasks),
        judgments=int(judgments),
        most=int(at_most),
        gold=gold,
        seconds=seconds,
        hours=hours,
        money=None if hourly_rate is None else hours.times(hourly_rate),
        basis="measured" if measured else "reading speed",
        measured=len(times),
    )


def _has_gold(c: Connection, batch_id: str) -> bool:
    query = select(gold_key.c.task_id).join(task, task.c.id == gold_key.c.task_id)
    return c.execute(query.where(task.c.batch_id == batch_id, gold_key.c.retired_at.is_(None))).first() is not None


def _times(c: Connection, found: Batch) -> list[float]:
    """Active seconds of the project's newest judgments of this kind of work."""
    rows = c.execute(
        select(submission.c.active_ms)
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .join(task, task.c.id == assignment.c.task_id)
        .join(batch, batch.c.id == task.c.batch_id)
        .where(batch.c.kind == found.kind, submission.c.active_ms.is_not(None), is_effective(submission))
        .order_by(submission.c.created_at.desc())
        .limit(_NEWEST)
    ).scalars()
    return [milliseconds / 1000 for milliseconds in rows if milliseconds is not None]


def _mean(times: list[float]) -> Range:
    mean = statistics.fmean(times)
    half = 1.96 * statistics.stdev(times) / math.sqrt(len(times))
    return Range(max(0.0, mean - half), mean, mean + half)


def _estimate(c: Connection, found: Batch) -> Range:
    of_prompts = (
        select(func.avg(prompt.c.chars)).join(task, task.c.prompt_id == prompt.c.id).where(task.c.batch_id == found.id)
    )
    of_responses = (
        select(func.sum(response.c.chars) * 1.0 / func.count(func.distinct(task.c.id)))
        .select_from(task)
        .join(task_response, task_response.c.task_id == task.c.id)
        .join(response, response.c.id == task_response.c.response_id)
        .where(task.c.batch_id == found.id)
    )
    chars = float(c.scalar(of_prompts) or 0) + float(c.scalar(of_responses) or 0)
    reading = [60 * chars / speed for speed in _CHARS_A_MINUTE]
    more = (_HANDLING_S,) * 3 if found.kind == "ranking" else _WRITING_S
    return Range(*(read + handling for read, handling in zip(reading, more, strict=True)))
