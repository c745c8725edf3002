"""The gold workshop: questions whose answer is known, how they are answered, and new ones out of ordinary tasks."""

from typing import Final

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.gold import gold, gold_workshop
from plaudit.feedback.gold.gold_accuracy import gold_accuracy
from plaudit.feedback.gold.gold_workshop import Workpiece
from plaudit.feedback.tasks.batches import list_batches
from plaudit.feedback.tasks.expected import Expected
from plaudit.reports.markup import plain
from plaudit.web.answers import letters_of
from plaudit.web.fields import ranks, typed
from plaudit.web.visit import Admin, Form, Member, text_field

router = APIRouter(prefix="/admin/gold")

MOST: Final = 200


@router.get("")
def workshop(member: Admin) -> Response:
    """All gold questions, those that are failed most first; labelers; tasks that would make good ones."""
    with member.read() as connection:
        questions = gold.gold_questions(connection)
        starts = gold_workshop.starts(connection, [one.task_id for one in questions[:MOST]])
        names = {one.id: one for one in list_batches(connection)}
        people = gold_accuracy(connection)
        candidates = gold_workshop.candidates(connection)
    return member.page(
        "admin_gold.html",
        questions=questions[:MOST],
        total=len(questions),
        starts=starts,
        names=names,
        people=people,
        candidates=candidates,
    )


@router.get("/{task_id}")
def piece(member: Admin, task_id: str) -> Response:
    """One task: its key and answers, or the form for a key."""
    return _page(member, task_id)


@router.post("/{task_id}")
def make(member: Admin, task_id: str, form: Form) -> Response:
    """Make it a gold question, here or as a copy in a batch of training or qualification."""
    given = typed(form)
    try:
        with member.write() as connection:
            found = gold_workshop.workpiece(connection, task_id)
            required = {one.id: text_field(form, f"flag-{one.id}") for one in found.responses}
            known = {flag.key for flag in found.flags}
            expected = gold_workshop.expected_of(
                ranks(form),
                {name: flag for name, flag in required.items() if flag in known},
            )
            gold_workshop.make(
                connection,
                task_id,
                expected,
                text_field(form, "explanation").strip()[:20_000],
                text_field(form, "batch"),
                by=member.account.id,
            )
    except ValidationError:
        words = "Give two answers different ranks, or choose a flag that must be raised: otherwise everybody passes."
        return _page(member, task_id, given=given, problems=[words], status=422)
    except FeedbackError as error:
        if error.code == "not_found":
            raise
        return _page(member, task_id, given=given, problems=[str(error)], status=error.status)
    return member.redirect("/admin/gold", note="saved")


@router.post("/{task_id}/retire")
def retire(member: Admin, task_id: str) -> Response:
    """The key was wrong, or too many know it."""
    with member.write() as connection:
        gold.retire_gold(connection, task_id, by=member.account.id)
    return member.redirect(f"/admin/gold/{task_id}", note="retired")


def _page(
    member: Member,
    task_id: str,
    *,
    given: dict[str, str] | None = None,
    problems: list[str] | None = None,
    status: int = 200,
) -> Response:
    with member.read() as connection:
        found = gold_workshop.workpiece(connection, task_id)
        batches = [
            one
            for one in list_batches(connection)
            if one.kind == "ranking" and one.status != "closed" and (one.purpose != "work" or one.id == found.batch_id)
        ]
    letters = letters_of(found.responses)
    labels = {"work": "{}: mixed in, nobody can tell", "training": "{}: training", "qualification": "{}: qualification"}
    return member.page(
        "admin_gold_task.html",
        status=status,
        piece=found,
        letters=letters,
        expected=_in_words(found, letters),
        targets=[(one.id, labels[one.purpose].format(plain(one.name))) for one in batches],
        given=given or {},
        problems=problems or [],
    )


def _in_words(found: Workpiece, letters: dict[str, str]) -> list[str]:
    """The expected answer, part by part."""
    expected: Expected | None = found.expected
    if expected is None:
        return []
    flags = {flag.key: flag.label for flag in found.flags}
    return [
        *(f"{letters[one.better]} is better than {letters[one.worse]}" for one in expected.constraints),
        *(f"{letters[one.response]} has the flag “{flags.get(one.flag, one.flag)}”" for one in expected.required),
        *(f"{letters[one.response]} has not the flag “{flags.get(one.flag, one.flag)}”" for one in expected.forbidden),
    ]
