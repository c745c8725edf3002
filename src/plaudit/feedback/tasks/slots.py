"""The counters of a task: how many judge it now, and how many have. Every change goes through here.

The database refuses a counter beyond the overlap (`ck_task_slots`), so no task gets more judgments than asked for,
whatever happens at the same moment.
"""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, case, update

from plaudit.feedback.store.tables import task

SURPLUS = "surplus"  # end_reason of an assignment whose slot was added because its work came late


def take(c: Connection, task_id: str) -> bool:
    """Take a slot of the task, if one is free."""
    free = (task.c.id == task_id) & (task.c.slots_taken < task.c.overlap)
    return c.execute(update(task).where(free).values(slots_taken=task.c.slots_taken + 1)).rowcount == 1


def take_extra(c: Connection, task_id: str) -> None:
    """Take a slot beyond those asked for: work that came late is kept."""
    c.execute(
        update(task).where(task.c.id == task_id).values(overlap=task.c.overlap + 1, slots_taken=task.c.slots_taken + 1)
    )


def give_back(c: Connection, given: Iterable[tuple[str, bool]]) -> None:
    """Give back slots: pairs of a task and whether its slot was a surplus one, which disappears."""
    # In one order everywhere: two transactions that wait for each other's tasks would never end.
    for task_id, surplus in sorted(given):
        overlap = task.c.overlap - int(surplus)
        c.execute(
            update(task)
            .where(task.c.id == task_id)
            .values(slots_taken=task.c.slots_taken - 1, overlap=overlap, status=_status(task.c.submitted, overlap))
        )


def submitted(c: Connection, task_id: str) -> None:
    """One of the taken slots now holds a judgment; with the last one the task is complete."""
    done = task.c.submitted + 1
    c.execute(update(task).where(task.c.id == task_id).values(submitted=done, status=_status(done, task.c.overlap)))


def reopened(c: Connection, task_id: str) -> None:
    """A judgment counts no more, and its labeler goes on with it: the slot stays taken."""
    done = task.c.submitted - 1
    c.execute(update(task).where(task.c.id == task_id).values(submitted=done, status=_status(done, task.c.overlap)))


def removed(c: Connection, task_id: str, *, surplus: bool) -> None:
    """A judgment counts no more, and its slot is free for somebody else."""
    reopened(c, task_id)
    give_back(c, [(task_id, surplus)])


def _status(done: ColumnElement[int], overlap: ColumnElement[int]) -> ColumnElement[str]:
    """A task is complete with its last judgment; who retired it had reasons."""
    return case((task.c.status == "retired", "retired"), (done >= overlap, "complete"), else_="open")
