"""The reviewers' pages: where people disagree, flag or give up; one task side by side; a decision."""

from collections import Counter
from typing import Final, get_args

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.tasks.answers import RankingAnswer
from plaudit.feedback.tasks.batches import list_batches
from plaudit.feedback.work import case_history, review
from plaudit.feedback.work.review import Case, Category, Show
from plaudit.web.answers import LETTERS, order_in_words
from plaudit.web.fields import page_number, ranks, typed
from plaudit.web.pages.work import SKIP_LABELS
from plaudit.web.visit import Form, Member, Reviewer, text_field

router = APIRouter(prefix="/review")

A_PAGE: Final = 30
SHOWS: Final[dict[str, Show]] = {show: show for show in get_args(Show)}
CATEGORIES: Final[dict[Category, str]] = {
    "ambiguous": "The task is ambiguous",
    "mistake": "Somebody made a mistake",
    "guideline": "The guidelines do not say",
    "taste": "A matter of taste",
    "bad_data": "The prompt or an answer is broken",
}
KNOWN: Final[dict[str, Category]] = {category: category for category in CATEGORIES}


@router.get("")
def queue(member: Reviewer, show: str = "disagreements", batch: str = "", page: int = 1) -> Response:
    """What nobody has decided yet."""
    wanted, number = SHOWS.get(show, "disagreements"), page_number(page)
    with member.read() as connection:
        found = review.queue(
            connection,
            member.account.id,
            show=wanted,
            batch_id=batch or None,
            limit=A_PAGE + 1,
            offset=A_PAGE * (number - 1),
        )
        batches = list_batches(connection)
    return member.page(
        "review.html",
        items=found[:A_PAGE],
        more=len(found) > A_PAGE,
        show=wanted,
        page=number,
        batch=batch if batch in {one.id for one in batches} else "",
        batches=batches,
    )


@router.get("/{task_id}")
def case(member: Reviewer, task_id: str) -> Response:
    """One task with everybody's judgments."""
    return _page(member, task_id)


@router.post("/{task_id}")
def decide(member: Reviewer, task_id: str, form: Form) -> Response:
    """The reviewer's own judgment beside those of the labelers."""
    category = KNOWN.get(text_field(form, "category"))
    try:
        if category is None:
            raise FeedbackError("invalid_answer", "Choose why people disagreed.", status=422)
        with member.write() as connection:
            review.adjudicate(connection, member.account.id, task_id, ranks(form), category, text_field(form, "note"))
    except FeedbackError as error:
        if error.code != "invalid_answer":
            raise
        return _page(member, task_id, given=typed(form), problems=[str(error)], status=error.status)
    return member.redirect("/review", note="decided")


@router.post("/{task_id}/reopen")
def reopen(member: Reviewer, task_id: str) -> Response:
    """Give a task out again that was skipped too often."""
    with member.write() as connection:
        review.reopen(connection, task_id, by=member.account.id)
    return member.redirect(f"/review/{task_id}", note="saved")


@router.post("/submissions/{submission_id}/void")
def void(member: Reviewer, submission_id: str, form: Form) -> Response:
    """Let an answer count no more."""
    with member.write() as connection:
        review.void(connection, submission_id, _reason(form), by=member.account.id)
    return _back(member, form, "voided")


@router.post("/submissions/{submission_id}/restore")
def restore(member: Reviewer, submission_id: str, form: Form) -> Response:
    """Let a voided answer count again."""
    with member.write() as connection:
        review.restore(connection, submission_id, _reason(form), by=member.account.id)
    return _back(member, form, "restored")


def _page(
    member: Member,
    task_id: str,
    *,
    given: dict[str, str] | None = None,
    problems: list[str] | None = None,
    status: int = 200,
) -> Response:
    with member.read() as connection:
        found = review.case(connection, member.account.id, task_id)
        history = case_history.case_history(connection, task_id)
        flags = {flag.key: flag.label for one in reversed(guidelines.history(connection)) for flag in one.flags}
    return member.page(
        "review_case.html",
        status=status,
        case=found,
        history=history,
        letters=LETTERS,
        flagged=_flagged(found),
        flag_words=flags,
        skip_words=SKIP_LABELS,
        categories=CATEGORIES,
        order=lambda tiers: order_in_words(found.responses, tiers),
        decided=any(one.pseudonym == member.account.pseudonym for one in found.decisions),
        given=given or {},
        problems=problems or [],
        admin=member.account.is_at_least("admin"),
    )


def _flagged(found: Case) -> dict[str, Counter[str]]:
    """Response -> flag -> how many people raised it, of answers that count."""
    flagged = {shown.id: Counter[str]() for shown in found.responses}
    for judgment in found.judgments:
        if isinstance(judgment.answer, RankingAnswer) and judgment.state == "submitted":
            for response_id, raised in judgment.answer.flags.items():
                flagged[response_id].update(raised)
    return flagged


def _reason(form: Form) -> str:
    reason = text_field(form, "reason").strip()
    if not reason:
        raise FeedbackError("no_reason", "Say why: the labeler and other reviewers should understand it.", status=422)
    return reason


def _back(member: Member, form: Form, note: str) -> Response:
    task_id = text_field(form, "task_id")
    return member.redirect(f"/review/{task_id}" if task_id.isalnum() else "/review", note=note)
