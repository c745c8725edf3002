"""Erasing what a person wrote, or their account: first what it would do, then doing it."""

from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback.data import lineage
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.people import members
from plaudit.feedback.privacy import erasure
from plaudit.feedback.privacy.erasure import Erased, What
from plaudit.web.fields import ticked
from plaudit.web.visit import Admin, Form, Member, text_field

router = APIRouter(prefix="/admin/members/{member_id}/erase")

PARTS: Final[dict[What, str]] = {
    "words": "What they wrote: demonstrations, reasons, notes of review and drafts",
    "groups": "Their answers to voluntary questions",
    "account": "Their account: email, name and password; they can never sign in again",
}


@router.get("")
def ask(member: Admin, member_id: str) -> Response:
    """What can be erased."""
    return _page(member, member_id, set())


@router.post("")
def erase(member: Admin, member_id: str, form: Form) -> Response:
    """Count what would be erased; erase it if the pseudonym was typed to confirm."""
    what: set[What] = {part for part in PARTS if part in ticked(form, "what")}
    with member.read() as connection:
        person = members.member(connection, member_id)
        members.check_may_appoint(connection, member.account.id, person.role)
    if not what:
        return _page(member, member_id, what, problems=["Choose what to erase."], status=422)
    try:
        if text_field(form, "action") != "erase":
            return _page(member, member_id, what, would=erasure.would_erase(member.site.project, member_id, what))
        if text_field(form, "confirm").strip() != person.pseudonym:
            return _page(
                member,
                member_id,
                what,
                would=erasure.would_erase(member.site.project, member_id, what),
                problems=[f"Type {person.pseudonym} to confirm; nothing was erased."],
                status=422,
            )
        erasure.erase(member.site.project, member_id, what, by=member.account.id)
    except FeedbackError as error:
        return _page(member, member_id, what, problems=[str(error)], status=error.status)
    if member_id == member.account.id and "account" in what:
        return member.redirect("/sign-in", note="erased")
    return member.redirect(f"/admin/members/{member_id}", note="erased")


def _page(
    member: Member,
    member_id: str,
    what: set[What],
    *,
    would: Erased | None = None,
    problems: list[str] | None = None,
    status: int = 200,
) -> Response:
    with member.read() as connection:
        person = members.member(connection, member_id)
        uses = lineage.uses_of_member(connection, member_id)
    return member.page(
        "admin_erase.html",
        status=status,
        person=person,
        parts_of=PARTS,
        what=what,
        would=would,
        uses=[use for use in uses if use.written],
        problems=problems or [],
    )
