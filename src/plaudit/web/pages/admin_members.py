"""Members: who there is, what they may do, and how others come in."""

from typing import Final, Literal

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.gold.gold_accuracy import gold_accuracy
from plaudit.feedback.people import accounts, members
from plaudit.feedback.people.member_counts import submitted_by_member
from plaudit.feedback.people.members import RANKS, Role
from plaudit.feedback.store import clock
from plaudit.web.visit import Admin, Form, Member, text_field

router = APIRouter(prefix="/admin/members")

Changed = Literal["training", "qualified", "paused", "removed"]
STATES: Final[dict[str, Changed]] = {
    "training": "training",
    "qualified": "qualified",
    "paused": "paused",
    "removed": "removed",
}
ROLES: Final[dict[str, Role]] = {role: role for role in RANKS}


@router.get("")
def all_members(member: Admin) -> Response:
    """Everybody."""
    return _all(member)


@router.post("/invites")
def invite(member: Admin, form: Form) -> Response:
    """An invitation. This answer is the only place where its link can be read."""
    try:
        with member.write() as connection:
            note = text_field(form, "note").strip()[:120]
            token = accounts.create_invite(connection, _role(form), by=member.account.id, note=note)
    except FeedbackError as error:
        return _all(member, problems=[str(error)], status=error.status)
    return _all(member, link=str(member.request.base_url.replace(path=f"/invite/{token}", query="")))


@router.post("/invites/{invite_id}/cancel")
def cancel(member: Admin, invite_id: str) -> Response:
    """Make an invitation useless."""
    with member.write() as connection:
        accounts.cancel_invite(connection, invite_id, by=member.account.id)
    return member.redirect("/admin/members", note="invite_cancelled")


@router.get("/{member_id}")
def one(member: Admin, member_id: str) -> Response:
    """One member."""
    return _one(member, member_id)


@router.post("/{member_id}/role")
def set_role(member: Admin, member_id: str, form: Form) -> Response:
    """Another role."""
    try:
        with member.write() as connection:
            members.set_role(connection, member_id, _role(form), by=member.account.id)
    except FeedbackError as error:
        return _one(member, member_id, problems=[str(error)], status=error.status)
    return member.redirect(f"/admin/members/{member_id}", note="saved")


@router.post("/{member_id}/state")
def set_state(member: Admin, member_id: str, form: Form) -> Response:
    """Qualify, pause or remove somebody."""
    state = STATES.get(text_field(form, "state"))
    try:
        if state is None:
            raise FeedbackError("bad_state", f"A state is one of {', '.join(STATES)}.", status=422)
        with member.write() as connection:
            members.set_state(connection, member_id, state, by=member.account.id)
    except FeedbackError as error:
        return _one(member, member_id, problems=[str(error)], status=error.status)
    return member.redirect(f"/admin/members/{member_id}", note="saved")


def _all(member: Member, *, problems: list[str] | None = None, link: str = "", status: int = 200) -> Response:
    with member.read() as connection:
        people = members.members(connection)
        counts = submitted_by_member(connection)
        invites = [one for one in accounts.invites(connection) if one.used_at is None and one.expires_at > clock.now()]
    return member.page(
        "admin_members.html",
        status=status,
        people=people,
        counts=counts,
        invites=invites,
        roles=_roles(member),
        problems=problems or [],
        link=link,
    )


def _one(member: Member, member_id: str, *, problems: list[str] | None = None, status: int = 200) -> Response:
    with member.read() as connection:
        person = members.member(connection, member_id)
        judged = submitted_by_member(connection).get(member_id, 0)
        gold = next((one for one in gold_accuracy(connection) if one.member_id == member_id), None)
    roles = _roles(member)
    if person.role not in dict(roles):
        roles = [*roles, (person.role, person.role)]
    return member.page(
        "admin_member.html",
        status=status,
        person=person,
        judged=judged,
        gold=gold,
        roles=roles,
        problems=problems or [],
    )


def _roles(member: Member) -> list[tuple[str, str]]:
    """Roles that this member may give; `members.check_may_appoint` decides, this is what the form offers."""
    highest = RANKS["owner"] if member.account.role == "owner" else RANKS["reviewer"]
    return [(role, role) for role, rank in RANKS.items() if rank <= highest]


def _role(form: Form) -> Role:
    role = ROLES.get(text_field(form, "role"))
    if role is None:
        raise FeedbackError("bad_role", f"A role is one of {', '.join(ROLES)}.", status=422)
    return role
