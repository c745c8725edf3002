from itertools import product

from sqlalchemy import Connection, select

from plaudit.feedback.store import clock, tables
from plaudit.feedback.store.database import Database
from plaudit.feedback.tasks.effective import EventKind, add_event, is_effective
from populate import add_assignment, add_guideline, add_member, add_ranking_task, add_submission

EVENTS: tuple[EventKind, ...] = ("withdrawn", "voided", "restored")


def effective(connection: Connection) -> set[str]:
    return set(connection.scalars(select(tables.submission.c.id).where(is_effective())))


def test_every_history_of_two_revisions_and_two_events(database: Database):
    """Against the rule in words: the newest revision, unless its own last event took it back."""
    expected: set[str] = set()
    with clock.at(1_700_000_000_000), database.write() as connection:  # every event in the same millisecond
        guideline = add_guideline(connection)
        histories = [
            (first, second)
            for first in [(), *[(kind,) for kind in EVENTS]]
            for second in [None, (), *product(EVENTS), *product(EVENTS, EVENTS)]
        ]
        _, tasks = add_ranking_task(connection, prompts=1, responses=2, guideline_id=guideline)
        shown = list(connection.scalars(select(tables.task_response.c.response_id)))
        for number, (first, second) in enumerate(histories):
            member = add_member(connection, f"M{number}")
            assignment = add_assignment(connection, tasks[0], member, guideline, shown, state="submitted")
            submissions = [add_submission(connection, assignment, guideline, {shown[0]: 1, shown[1]: 2})]
            if second is not None:
                submissions.append(
                    add_submission(connection, assignment, guideline, {shown[0]: 1, shown[1]: 1}, revision=2)
                )
            for submission, events in zip(submissions, (first, second or ()), strict=False):
                for kind in events:
                    add_event(connection, submission, kind, "test", member_id=member)
            last = first if second is None else second
            if not last or last[-1] == "restored":
                expected.add(submissions[-1])
    with database.read() as connection:
        assert effective(connection) == expected
        other = tables.submission.alias("other")
        assert set(connection.scalars(select(other.c.id).where(is_effective(other)))) == expected
