"""The work itself: take a task, rank or write, submit, and on to the next."""

from typing import Final, get_args

from fastapi import APIRouter
from sqlalchemy import Connection
from starlette.responses import Response

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store import clock
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.tasks.answers import as_json
from plaudit.feedback.tasks.batches import Purpose
from plaudit.feedback.work import assignment, drafts, submissions
from plaudit.feedback.work.assignment import Assignment, SkipReason
from plaudit.web.answers import (
    LETTERS,
    Draft,
    RankingDraft,
    answer_of_draft,
    draft_of_form,
    missing,
    order_in_words,
    read_draft,
    settled,
)
from plaudit.web.visit import Form, Labeler, Member, text_field

router = APIRouter(prefix="/work")

SKIP_LABELS: Final[dict[SkipReason, str]] = {
    "unclear": "The prompt or the task is unclear",
    "too_long": "It is too long",
    "not_my_field": "I do not know enough about it",
    "distressing": "It is distressing",
    "broken": "Something is broken or missing",
}
REASONS: Final[dict[str, SkipReason]] = {reason: reason for reason in SKIP_LABELS}
PURPOSES: Final[dict[str, Purpose]] = {purpose: purpose for purpose in get_args(Purpose)}
# Why an answer cannot be changed any more, by purpose of the batch and state; "" is any purpose.
CLOSED: Final[dict[tuple[str, str], str]] = {
    ("", "voided"): "A reviewer has voided this work, so it stays as it is.",
    ("qualification", "submitted"): "Answers in a qualification are final.",
}
MAX_ACTIVE_MS: Final = 24 * clock.HOUR


@router.post("/claim")
def claim(member: Labeler, form: Form) -> Response:
    """Take the next task, or the one that is open already."""
    purpose = PURPOSES.get(text_field(form, "purpose"), "work")
    with member.write() as connection:
        taken = assignment.claim(
            connection,
            member.account.id,
            secret=member.site.secret,
            batch_id=text_field(form, "batch_id") or None,
            purpose=purpose,
        )
    return member.redirect("/", note="nothing_left") if taken is None else member.redirect(f"/work/{taken.id}")


@router.get("/{assignment_id}")
def task(member: Labeler, assignment_id: str, done: str = "") -> Response:
    """A task in hand. `done` is the submission just made, which can still be undone."""
    with member.read() as connection:
        found = assignment.open_assignment(connection, member.account.id, assignment_id)
        return _page(member, connection, found, done=done if done.isalnum() else "")


@router.post("/{assignment_id}")
def act(member: Labeler, assignment_id: str, form: Form) -> Response:
    """Whichever button was pressed: submit, draft, skip or release."""
    action = text_field(form, "action")
    acts = {"submit": _submit, "draft": _save_draft, "skip": _skip, "release": _release}
    if action not in acts:
        raise FeedbackError("unknown_action", f"`{action[:40]}` is no action of this page.", status=422)
    return acts[action](member, assignment_id, form)


def _submit(member: Member, assignment_id: str, form: Form) -> Response:
    with member.read() as connection:
        found = assignment.open_assignment(connection, member.account.id, assignment_id)
        draft = draft_of_form(found, form)
        if problems := missing(found, draft):
            return _page(member, connection, found, draft=draft, problems=problems, status=422)
    try:
        with member.write() as connection:
            receipt = submissions.submit(
                connection,
                member.account.id,
                assignment_id,
                answer_of_draft(settled(found, draft)),
                idempotency_key=text_field(form, "idempotency_key"),
                lease_no=_number(form, "lease_no") or 0,
                active_ms=_number(form, "active_ms"),
            )
    except FeedbackError as error:
        with member.read() as connection:
            return _page(member, connection, found, draft=draft, problems=[str(error)], status=error.status)
    if found.state == "submitted":
        return member.redirect("/history", note="saved")
    if found.purpose == "training":
        return member.redirect(f"/training/{assignment_id}")
    with member.write() as connection:
        following = assignment.claim(
            connection,
            member.account.id,
            secret=member.site.secret,
            batch_id=found.batch_id,
            purpose=PURPOSES[found.purpose],
        )
    return member.redirect(f"/work/{following.id}" if following else "/", done=receipt.submission_id)


def _save_draft(member: Member, assignment_id: str, form: Form) -> Response:
    with member.write() as connection:
        found = assignment.open_assignment(connection, member.account.id, assignment_id)
        draft = draft_of_form(found, form)
        try:
            drafts.save_draft(
                connection, member.account.id, assignment_id, _number(form, "draft_revision") or 0, draft.model_dump()
            )
        except FeedbackError as error:
            return _page(member, connection, found, draft=draft, problems=[str(error)], status=error.status)
    return member.redirect(f"/work/{assignment_id}", note="draft_saved")


def _skip(member: Member, assignment_id: str, form: Form) -> Response:
    reason = REASONS.get(text_field(form, "skip_reason"))
    with member.write() as connection:
        if reason is None:
            found = assignment.open_assignment(connection, member.account.id, assignment_id)
            return _page(
                member,
                connection,
                found,
                problems=["Choose why you skip, at the end of the page."],
                status=422,
            )
        assignment.skip(connection, member.account.id, assignment_id, reason)
    return member.redirect("/", note="skipped")


def _release(member: Member, assignment_id: str, _: Form) -> Response:
    with member.write() as connection:
        assignment.release(connection, member.account.id, assignment_id)
    return member.redirect("/", note="released")


def _page(
    member: Member,
    connection: Connection,
    found: Assignment,
    *,
    draft: Draft | None = None,
    problems: list[str] | None = None,
    done: str = "",
    status: int = 200,
) -> Response:
    editing = found.state == "submitted"
    if draft is None:
        draft = _kept(found)
    return member.page(
        f"work_{found.kind}.html",
        status=status,
        task=found,
        payload=draft,
        revision=found.draft.revision if found.draft else 0,
        draft_saved_at=found.draft.updated_at if found.draft and not editing else None,
        editing=editing,
        closed=CLOSED.get((found.purpose, found.state)) or CLOSED.get(("", found.state)),
        problems=problems or [],
        done=done,
        letters=LETTERS,
        order=order_in_words(found.responses, draft.tiers) if isinstance(draft, RankingDraft) else "",
        veiled=found.config.blur,
        batch_name=found.batch_name,
        reason_required=found.config.reason_required,
        shortcuts=member.account.preferences.get("shortcuts", True),
        skip_reasons=list(SKIP_LABELS.items()),
        guideline_body=guidelines.read(connection, found.guideline_id).body,
        lease_left_ms=max(0, found.lease_expires_at - clock.now()),
    )


def _kept(found: Assignment) -> Draft:
    """What the fields hold at first: the draft, or what was submitted when it is edited, or nothing."""
    if found.state == "submitted" and found.answer is not None:
        return read_draft(found.kind, as_json(found.answer))
    return read_draft(found.kind, found.draft.payload if found.draft else {})


def _number(form: Form, name: str) -> int | None:
    value = text_field(form, name)
    return min(int(value), MAX_ACTIVE_MS) if value.isdecimal() and len(value) < 12 else None
