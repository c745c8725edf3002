"""What an admin should know first: how the work goes, and what waits for somebody."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from plaudit.feedback.gold.gold import gold_questions
from plaudit.feedback.gold.gold_accuracy import gold_accuracy
from plaudit.feedback.store import clock
from plaudit.feedback.store.tables import adjudication, assignment, guideline, invite, member, prompt, submission, task

LOW_AGREEMENT = 0.4


@dataclass(frozen=True, slots=True)
class Overview:
    """Counts for the first page.

    day, week:      submissions in the last 24 hours and 7 days; people: who made those of the week.
    undecided:      tasks with an agreement below `LOW_AGREEMENT` that no reviewer has decided.
    retired:        tasks that nobody gets any more because people skipped them.
    concerns:       pseudonyms of labelers who most likely fail too many gold questions.
    doubtful:       gold questions that so many fail that the key is more likely wrong.
    """

    prompts: int
    day: int
    week: int
    people: int
    undecided: int
    retired: int
    in_training: int
    open_invites: int
    published: bool
    draft: bool
    concerns: tuple[str, ...]
    doubtful: int


def overview(c: Connection) -> Overview:
    """The counts as they are now."""
    now = clock.now()
    statuses = set(c.execute(select(guideline.c.status)).scalars())
    decided = select(adjudication.c.id).where(adjudication.c.task_id == task.c.id).exists()
    made = select(func.count(), func.count(func.distinct(assignment.c.member_id))).select_from(submission)
    made = made.join(assignment, assignment.c.id == submission.c.assignment_id)
    week, people = c.execute(made.where(submission.c.created_at > now - 7 * clock.DAY)).one()
    return Overview(
        prompts=_count(c, prompt.c.status == "active"),
        day=_count(c, submission.c.created_at > now - clock.DAY),
        week=week,
        people=people,
        undecided=_count(c, (task.c.agreement < LOW_AGREEMENT) & ~decided),
        retired=_count(c, task.c.status == "retired"),
        in_training=_count(c, member.c.state == "training"),
        open_invites=_count(c, invite.c.used_at.is_(None) & (invite.c.expires_at > now)),
        published="published" in statuses,
        draft="draft" in statuses,
        concerns=tuple(one.pseudonym for one in gold_accuracy(c) if one.concern),
        doubtful=sum(one.doubtful and not one.retired for one in gold_questions(c)),
    )


def _count(c: Connection, condition: object) -> int:
    return c.execute(select(func.count()).where(condition)).scalar_one()  # pyright: ignore[reportArgumentType]
