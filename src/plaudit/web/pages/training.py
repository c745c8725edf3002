"""After a training task: what was expected, and why. After the qualification: the result."""

from typing import NamedTuple

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback.gold import gold
from plaudit.feedback.tasks.answers import RankingAnswer
from plaudit.feedback.tasks.expected import Check
from plaudit.feedback.work import assignment, own_progress
from plaudit.feedback.work.assignment import Assignment
from plaudit.web.answers import LETTERS, letters_of, order_in_words
from plaudit.web.visit import Labeler

router = APIRouter()


class Lesson(NamedTuple):
    """One part of the expected answer, in words, and whether it was met (1), half met (a tie) or not (0)."""

    expected: str
    met: float


@router.get("/training/{assignment_id}")
def explanation(member: Labeler, assignment_id: str) -> Response:
    """A training task that was answered, with the expected answer beside one's own."""
    with member.read() as connection:
        explained = gold.explain(connection, member.account.id, assignment_id)
        found = assignment.open_assignment(connection, member.account.id, assignment_id)
        batches = own_progress.own_batches(connection, member.account.id)
    assert isinstance(found.answer, RankingAnswer)
    return member.page(
        "training.html",
        task=found,
        explained=explained,
        lessons=[lesson(found, check) for check in explained.checks],
        letters=LETTERS,
        order=order_in_words(found.responses, found.answer.tiers),
        progress=next((one for one in batches if one.batch.id == found.batch_id), None),
    )


@router.get("/qualification")
def result(member: Labeler) -> Response:
    """How one did in the qualification."""
    with member.read() as connection:
        batches = own_progress.own_batches(connection, member.account.id)
        results = [
            (one.batch, gold.qualification(connection, member.account.id, one.batch.id))
            for one in batches
            if one.batch.purpose == "qualification"
        ]
    return member.page("qualification.html", results=results)


def lesson(task: Assignment, check: Check) -> Lesson:
    """A check of the expected answer in words, with the letters this labeler saw."""
    letters = letters_of(task.responses)
    flags = {flag.key: flag.label for flag in task.flags}
    if check.kind == "order":
        return Lesson(f"{letters[check.first]} is better than {letters[check.second]}", check.met)
    label = flags.get(check.second, check.second)
    wording = "has the flag" if check.kind == "required" else "does not have the flag"
    return Lesson(f"{letters[check.first]} {wording} “{label}”", check.met)
