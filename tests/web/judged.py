"""Judgments for the pages that show them: people rank a batch, and mostly agree."""

from sites import Site
from sqlalchemy import select

from plaudit.feedback.store import clock, tables
from plaudit.feedback.tasks.answers import RankingAnswer
from plaudit.feedback.work.assignment import claim
from plaudit.feedback.work.submissions import submit

BATCH = "Household questions"


def judge(site: Site, *names: str, reason: str = "", flag: str | None = None, batch: str = BATCH) -> list[str]:
    """Everybody named ranks all tasks of the batch, by text; the last one the other way round. Ids of submissions."""
    found: list[str] = []
    for name in names:
        if name not in site.people:
            site.add_person(name)
        while True:
            with site.project.database.write() as c:
                task = claim(c, site.people[name], secret=b"tests", batch_id=site.batches[batch])
                if task is None:
                    break
                order = sorted(task.responses, key=lambda one: one.body, reverse=len(names) > 1 and name == names[-1])
                answer = RankingAnswer(
                    {one.id: place for place, one in enumerate(order, start=1)},
                    flags={order[-1].id: [flag]} if flag else {},
                    reason=reason,
                    confidence=4,
                )
                receipt = submit(
                    c,
                    site.people[name],
                    task.id,
                    answer,
                    idempotency_key=task.idempotency_key,
                    lease_no=task.lease_no,
                    active_ms=20_000,
                )
                found.append(receipt.submission_id)
    return found


def first_task(site: Site, *, batch: str = BATCH) -> str:
    """A task of the batch, of the same prompt in every run: ids are random, and some prompts are in two batches."""
    with site.project.database.read() as c:
        query = select(tables.task.c.id).join(tables.prompt, tables.prompt.c.id == tables.task.c.prompt_id)
        mine = query.where(tables.task.c.batch_id == site.batches[batch])
        return c.execute(mine.order_by(tables.prompt.c.sha256)).scalars().first() or ""


def rows(site: Site, table) -> list:
    """All rows of a table."""
    with site.project.database.read() as c:
        return list(c.execute(select(table)).all())


__all__ = ["BATCH", "clock", "first_task", "judge", "rows", "tables"]
