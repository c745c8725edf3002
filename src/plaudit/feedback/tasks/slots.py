"""The counters of a task: how many judge it now, and how many have. Every change goes through here.

The database refuses a counter beyond the overlap (`ck_task_slots`), so no task gets more judgments than asked for,
whatever happens at the same moment.
"""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, SmallInteger, bindparam, case, update

from plaudit.feedback.store.tables import task

SURPLUS = "surplus"  # end_reason of an assignment whose slot was added because its work came late


def take(c: Connection, task_id: str) -> bool:
    """Take a slot of the task, if one is free."""
    return c.execute(_TAKE, {"task_id": task_id}).rowcount == 1


def take_extra(c: Connection, task_id: str) -> None:
    """Take a slot beyond those asked for: work that came late is kept."""
    c.execute(_TAKE_EXTRA, {"task_id": task_id})


def give_back(c: Connection, given: Iterable[tuple[str, bool]]) -> None:
    """Give back slots: pairs of a task and whether its slot was a surplus one, which disappears."""
    # In one order everywhere: two transactions that wait for each other's tasks would never end.
    for task_id, surplus in sorted(given):
        c.execute(_GIVE_BACK, {"task_id": task_id, "surplus": int(surplus)})


def submitted(c: Connection, task_id: str) -> None:
    """One of the taken slots now holds a judgment; with the last one the task is complete."""
    c.execute(_COUNT, {"task_id": task_id, "more": 1})


def reopened(c: Connection, task_id: str) -> None:
    """A judgment counts no more, and its labeler goes on with it: the slot stays taken."""
    c.execute(_COUNT, {"task_id": task_id, "more": -1})


def removed(c: Connection, task_id: str, *, surplus: bool) -> None:
    """A judgment counts no more, and its slot is free for somebody else."""
    reopened(c, task_id)
    give_back(c, [(task_id, surplus)])


def _status(done: ColumnElement[int], overlap: ColumnElement[int]) -> ColumnElement[str]:
    """A task is complete with its last judgment; who retired it had reasons."""
    return case((task.c.status == "retired", "retired"), (done >= overlap, "complete"), else_="open")


_this = update(task).where(task.c.id == bindparam("task_id"))
_TAKE = _this.where(task.c.slots_taken < task.c.overlap).values(slots_taken=task.c.slots_taken + 1)
_TAKE_EXTRA = _this.values(overlap=task.c.overlap + 1, slots_taken=task.c.slots_taken + 1)
_left = task.c.overlap - bindparam("surplus", type_=SmallInteger)
_GIVE_BACK = _this.values(slots_taken=task.c.slots_taken - 1, overlap=_left, status=_status(task.c.submitted, _left))
_done = task.c.submitted + bindparam("more", type_=SmallInteger)
_COUNT = _this.values(submitted=_done, status=_status(_done, task.c.overlap))
