"""Sign in, sign out, accept an invitation."""

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.people import accounts
from plaudit.web.demo import Door
from plaudit.web.visit import Form, Guest, Visit, local_path, set_session, text_field

router = APIRouter()


@router.get("/sign-in")
def form(guest: Guest, next: str = "/") -> Response:
    """The form."""
    if guest.account is not None:
        return guest.redirect(local_path(next))
    return guest.page("sign_in.html", email="", next=local_path(next), problems=[])


@router.post("/sign-in")
def sign_in(guest: Guest, form: Form) -> Response:
    """Start a session. Wrong email and wrong password look the same."""
    email, destination = text_field(form, "email"), local_path(text_field(form, "next"))
    try:
        token = accounts.sign_in(guest.database, email, text_field(form, "password"), address_key=address_key(guest))
    except FeedbackError as error:
        return guest.page("sign_in.html", status=error.status, email=email, next=destination, problems=[str(error)])
    return _signed_in(guest, token, destination)


@router.get("/enter/{token}")
def door(guest: Guest, token: str) -> Response:
    """A link of the demo: who one will be."""
    return guest.page("enter.html", door=_door(guest, token))


@router.post("/enter/{token}")
def enter(guest: Guest, token: str) -> Response:
    """Sign in as a person of the demo."""
    found = _door(guest, token)
    session = accounts.sign_in(guest.database, found.email, found.password, address_key=address_key(guest))
    return _signed_in(guest, session, "/")


@router.post("/sign-out")
def sign_out(guest: Guest) -> Response:
    """End the session, on the server too."""
    token = guest.request.cookies.get(guest.site.cookie)
    if token is not None:
        with guest.write() as connection:
            accounts.sign_out(connection, token)
    answer = guest.redirect("/sign-in", note="signed_out")
    answer.delete_cookie(guest.site.cookie, secure=guest.site.https, httponly=True, samesite="lax")
    return answer


@router.get("/invite/{token}")
def invitation(guest: Guest, token: str) -> Response:
    """The form of a new member. Whether the invitation is good is told when it is used: looking does not test keys."""
    assert token
    return guest.page("invite.html", email="", display_name="", problems=[])


@router.post("/invite/{token}")
def accept(guest: Guest, token: str, form: Form) -> Response:
    """Make the account and sign in."""
    email, name, password = (text_field(form, key) for key in ("email", "display_name", "password"))
    try:
        accounts.accept_invite(guest.database, token, email=email, display_name=name, password=password)
        session = accounts.sign_in(guest.database, email, password, address_key=address_key(guest))
    except FeedbackError as error:
        return guest.page("invite.html", status=error.status, email=email, display_name=name, problems=[str(error)])
    return _signed_in(guest, session, "/")


def address_key(guest: Visit) -> str:
    """Where the request comes from, as a keyed hash: enough to slow down guessing, not to know anybody's address."""
    return guest.site.project.address_key(guest.request.client.host if guest.request.client else "unknown")


def _door(guest: Visit, token: str) -> Door:
    if token not in guest.site.doors:
        raise FeedbackError("not_found", "There is no such page.", status=404)
    return guest.site.doors[token]


def _signed_in(guest: Visit, token: str, destination: str) -> Response:
    answer = guest.redirect(destination)
    set_session(answer, guest.site, token)
    return answer
