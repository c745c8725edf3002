"""One's own account: keys, password, where one is signed in, tokens for programs."""

from typing import get_args

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.people import accounts, members
from plaudit.feedback.people.accounts import Scope
from plaudit.feedback.store import clock
from plaudit.web.pages.sign_in import address_key
from plaudit.web.visit import Form, Labeler, Member, set_session, text_field

router = APIRouter(prefix="/profile")

LIFETIMES = {"30": "30 days", "90": "90 days", "365": "a year", "": "until revoked"}


@router.get("")
def profile(member: Labeler) -> Response:
    """The page."""
    return _page(member)


@router.post("/preferences")
def preferences(member: Labeler, form: Form) -> Response:
    """Single-key shortcuts on or off."""
    with member.write() as connection:
        chosen = {**member.account.preferences, "shortcuts": "shortcuts" in form}
        members.set_preferences(connection, member.account.id, chosen)
    return member.redirect("/profile", note="saved")


@router.post("/password")
def password(member: Labeler, form: Form) -> Response:
    """Another password; everywhere else one is signed out."""
    try:
        token = accounts.change_password(
            member.database,
            member.account.id,
            text_field(form, "old"),
            text_field(form, "new"),
            address_key=address_key(member),
        )
    except FeedbackError as error:
        # 401 would say that the session is not good.
        return _page(member, problems=[str(error)], status=422 if error.status == 401 else error.status)
    answer = member.redirect("/profile", note="password_changed")
    set_session(answer, member.site, token)
    return answer


@router.post("/sessions/{handle}/end")
def end_session(member: Labeler, handle: str) -> Response:
    """Sign out somewhere else."""
    with member.write() as connection:
        accounts.end_session(connection, member.account.id, handle)
    return member.redirect("/profile", note="session_ended")


@router.post("/tokens")
def create_token(member: Labeler, form: Form) -> Response:
    """A token for a program. This answer is the only place where it can be read."""
    scopes: list[Scope] = [scope for scope in get_args(Scope) if scope in form.getlist("scope")]
    days = text_field(form, "days")
    expires_at = clock.now() + int(days) * clock.DAY if days in LIFETIMES and days else None
    try:
        with member.write() as connection:
            token = accounts.create_token(connection, member.account.id, text_field(form, "name"), scopes, expires_at)
    except FeedbackError as error:
        return _page(member, problems=[str(error)], status=error.status)
    return _page(member, new_token=token)


@router.post("/tokens/{token_id}/revoke")
def revoke_token(member: Labeler, token_id: str) -> Response:
    """Make a token useless."""
    with member.write() as connection:
        accounts.revoke_token(connection, member.account.id, token_id)
    return member.redirect("/profile", note="token_revoked")


def _page(member: Member, *, problems: list[str] | None = None, new_token: str = "", status: int = 200) -> Response:
    with member.read() as connection:
        sessions = accounts.sessions(connection, member.account.id)
        tokens = [token for token in accounts.tokens(connection, member.account.id) if token.revoked_at is None]
    settings = member.site.project.settings()
    return member.page(
        "profile.html",
        status=status,
        problems=problems or [],
        new_token=new_token,
        shortcuts=member.account.preferences.get("shortcuts", True),
        sessions=sessions,
        tokens=tokens,
        scopes=sorted(accounts.SCOPES[member.account.role]),
        lifetimes=list(LIFETIMES.items()),
        contact=settings.contact,
        asks=bool(settings.group_questions),
    )
