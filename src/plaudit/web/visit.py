"""Who asks, what they may do, and how they are answered.

A page is a plain function of a `Visit` (anybody) or of a `Member` with a role. The role is part of the function's
signature, `def page(member: Admin)`, so a page without one cannot be written by forgetting a line.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import jinja2
from fastapi import Depends, Request
from sqlalchemy import Connection
from starlette.datastructures import FormData
from starlette.responses import HTMLResponse, RedirectResponse, Response

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.people import accounts
from plaudit.feedback.people.members import Account, Role
from plaudit.feedback.project import Project
from plaudit.feedback.store.database import Database
from plaudit.web.demo import Door
from plaudit.web.navigation import entries_for

# Sentences that a page may show after a redirect, by the `note` in its address. Words from the address are never shown.
NOTES: Final[dict[str, str]] = {
    "saved": "Saved.",
    "signed_out": "You are signed out.",
    "undone": "Taken back. The task is yours again, as you left it.",
    "skipped": "Skipped. Skipping never counts against you.",
    "released": "Given back to the queue. Your draft is kept.",
    "nothing_left": "Nothing is left to do here right now.",
    "draft_saved": "Draft saved.",
    "decided": "Decided. Your decision stands beside the judgments.",
    "voided": "Voided. That answer counts no more, and its place is free for somebody else.",
    "restored": "Restored. That answer counts again.",
    "published": "Published. Judgments made from now on know this version.",
    "batch_running": "The batch is running: its tasks are given out.",
    "batch_paused": "The batch is paused. Tasks in hand can still be submitted.",
    "batch_closed": "The batch is closed. Its settings stay as they are.",
    "invite_cancelled": "That invitation no longer works.",
    "retired": "Retired. Nobody gets it any more.",
    "erased": "Erased.",
    "imported": "Imported.",
    "session_ended": "That session is ended.",
    "token_revoked": "That token no longer works.",
    "password_changed": "The password is changed. You are signed out everywhere else.",
}


@dataclass(frozen=True)
class Site:
    """What is the same for every request."""

    project: Project
    templates: jinja2.Environment
    https: bool  # what browsers see, also where a proxy in front ends TLS
    doors: Mapping[str, Door]  # of a demo; none in a project

    @property
    def secret(self) -> bytes:
        """Decides which tasks are gold for whom, and the order of responses."""
        return self.project.secrets.key("tasks")

    @property
    def cookie(self) -> str:
        """Name of the session cookie.

        `__Host-` makes browsers insist on HTTPS and on this very host. Plain HTTP on this machine cannot have that;
        there the name says which project it is, because cookies of all ports of a machine lie together.
        """
        if self.https:
            return "__Host-plaudit"
        return f"plaudit-{sha256(str(self.project.folder).encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Visit:
    """A request, by anybody."""

    request: Request
    site: Site
    account: Account | None

    @property
    def database(self) -> Database:
        return self.site.project.database

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.database.read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self.database.write() as connection:
            yield connection

    def page(self, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
        """A page of the site. `template` lies in `web/templates`; the base template gets what it needs here."""
        note = NOTES.get(self.request.query_params.get("note", ""))
        html = self.site.templates.get_template(template).render(
            account=self.account,
            project_name=self.site.project.name,
            navigation=entries_for(self.account, self.request.url.path),
            path=self.request.url.path,
            note=note,
            **context,
        )
        return HTMLResponse(html, status)

    def redirect(self, path: str, **query: str) -> RedirectResponse:
        """Go on with a GET, so that reloading the next page repeats nothing. `note=` is a key of NOTES."""
        assert local_path(path) == path
        assert query.get("note", "saved") in NOTES
        return RedirectResponse(f"{path}?{urlencode(query)}" if query else path, 303)


@dataclass(frozen=True)
class Member(Visit):
    """A request by somebody who is signed in."""

    account: Account  # pyright: ignore[reportIncompatibleVariableOverride]  (narrower, and frozen)


class SignInNeeded(Exception):  # noqa: N818 (a detour rather than a fault)
    """The page is for members: go and sign in, then come back."""


def visit(request: Request) -> Visit:
    """The request with its account, if its session cookie is good."""
    site: Site = request.app.state.site
    token = request.cookies.get(site.cookie)
    if token is None:
        return Visit(request, site, None)
    with site.project.database.read() as connection:
        account = accounts.session_account(connection, token)
        due = account is not None and accounts.is_session_due(connection, token)
    if due:
        accounts.keep_session(site.project.database, token)
    return Visit(request, site, account)


@dataclass(frozen=True)
class AtLeast:
    """A dependency: somebody signed in who has at least this role. Others get 404, as if the page were not there."""

    role: Role

    def __call__(self, guest: Annotated[Visit, Depends(visit)]) -> Member:
        if guest.account is None:
            raise SignInNeeded
        if not guest.account.is_at_least(self.role):
            raise FeedbackError("not_found", "There is no such page.", status=404)
        return Member(guest.request, guest.site, guest.account)


Guest = Annotated[Visit, Depends(visit)]
Labeler = Annotated[Member, Depends(AtLeast("labeler"))]
Reviewer = Annotated[Member, Depends(AtLeast("reviewer"))]
Admin = Annotated[Member, Depends(AtLeast("admin"))]
Owner = Annotated[Member, Depends(AtLeast("owner"))]


async def read_form(request: Request) -> AsyncIterator[FormData]:
    """The posted form. The only asynchronous step: pages themselves are plain functions in threads."""
    async with request.form(max_files=1, max_fields=2000) as form:
        yield form


Form = Annotated[FormData, Depends(read_form)]


def text_field(form: FormData, name: str) -> str:
    """A text of the form, with line ends as in Unix (browsers send CR LF); empty where it was not sent."""
    value = form.get(name, "")
    return value.replace("\r\n", "\n") if isinstance(value, str) else ""


def local_path(path: str) -> str:
    """`path` if it leads to a page of this site, else the home page. For addresses that came with a request."""
    if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable():
        return path
    return "/"


def set_session(response: Response, site: Site, token: str) -> None:
    """Hand the session to the browser."""
    response.set_cookie(site.cookie, token, max_age=14 * 24 * 3600, secure=site.https, httponly=True, samesite="lax")
