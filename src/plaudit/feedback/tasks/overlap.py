"""Do the labelers of a task agree, and does it need one more of them?"""

from collections.abc import Mapping, Sequence
from itertools import combinations

from sqlalchemy import Connection, bindparam, select, update

from plaudit.feedback.store.tables import assignment, batch, gold_key, ranking_entry, submission, task
from plaudit.feedback.tasks.batches import BatchConfig
from plaudit.feedback.tasks.effective import is_effective

Tiers = Mapping[str, int]


def agreement(rankings: Sequence[Tiers]) -> float | None:
    """Mean over pairs of labelers of the share of response pairs that both put in the same order; a tie is an order.

    A labeler who found nothing acceptable and ranked nothing (empty tiers) agrees with those who did the same, and with
    nobody else. None below two labelers.
    """
    if len(rankings) < 2:
        return None
    shares = [_same(one, other) for one, other in combinations(rankings, 2)]
    return sum(shares) / len(shares)


def task_rankings(c: Connection, task_id: str) -> dict[str, dict[str, int]]:
    """Tiers of the effective submissions of a ranking task, by submission id."""
    rankings: dict[str, dict[str, int]] = {}
    for row in c.execute(_RANKINGS, {"task_id": task_id}):
        tiers = rankings.setdefault(row.id, {})
        if row.response_id is not None:
            tiers[row.response_id] = row.tier
    return rankings


def after_judgment(c: Connection, task_id: str) -> None:
    """Follow a change of a task's judgments: its agreement, and one slot more where people disagree.

    The caller holds the task's row.

    Only a task that has all its judgments is raised, by one, up to the batch's maximum; the audited share began there.
    Gold questions are left alone: whoever answers them is measured against the key, not against the others.
    """
    row = c.execute(_RULES, {"task_id": task_id}).one()
    if row.kind != "ranking" or row.task_id is not None:
        return
    found = agreement(list(task_rankings(c, task_id).values())) if row.submitted > 1 else None
    if found != row.agreement:
        c.execute(_SET_AGREEMENT, {"this": task_id, "agreement": found})
    adaptive = BatchConfig.model_validate(row.config).adaptive
    if (
        adaptive is not None
        and found is not None
        and found < adaptive.below
        and row.status == "complete"
        and row.overlap < adaptive.maximum
    ):
        c.execute(update(task).where(task.c.id == task_id).values(overlap=row.overlap + 1, status="open"))


_SET_AGREEMENT = update(task).where(task.c.id == bindparam("this"))
_RANKINGS = (
    select(submission.c.id, ranking_entry.c.response_id, ranking_entry.c.tier)
    .join(assignment, assignment.c.id == submission.c.assignment_id)
    .outerjoin(ranking_entry, ranking_entry.c.submission_id == submission.c.id)
    # Without the assignment's state, which says the same: SQLite would take its index, and read every judgment.
    .where(assignment.c.task_id == bindparam("task_id"), is_effective(submission))
    .order_by(submission.c.id)
)
_RULES = (
    select(
        task.c.overlap,
        task.c.submitted,
        task.c.status,
        task.c.agreement,
        batch.c.kind,
        batch.c.config,
        gold_key.c.task_id,
    )
    .join(batch, batch.c.id == task.c.batch_id)
    .outerjoin(gold_key, gold_key.c.task_id == task.c.id)
    .where(task.c.id == bindparam("task_id"))
)


def _same(one: Tiers, other: Tiers) -> float:
    if not one or not other:
        return float(not one and not other)
    pairs = list(combinations(sorted(one), 2))
    return sum(_sign(one, *pair) == _sign(other, *pair) for pair in pairs) / len(pairs)


def _sign(tiers: Tiers, first: str, second: str) -> int:
    gap = tiers[second] - tiers[first]
    return (gap > 0) - (gap < 0)
