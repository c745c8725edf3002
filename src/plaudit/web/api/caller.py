"""Who calls the API: a program with a token, or a page of this site with its session cookie."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.people import accounts
from plaudit.feedback.people.accounts import Scope
from plaudit.feedback.people.members import Account
from plaudit.web.visit import Member, Site, visit

bearer = HTTPBearer(auto_error=False, description="A token, made in the profile.")


@dataclass(frozen=True)
class Caller:
    """A dependency: the member who calls, by a token with this scope. A session may do what its member may.

    Where a token is sent it alone counts, so that a page elsewhere gains nothing by adding a header.
    """

    scope: Scope

    def __call__(self, request: Request, _: Annotated[object, Security(bearer)]) -> Member:
        site: Site = request.app.state.site
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            account, scopes = _of_token(site, token.strip())
        else:
            account = visit(request).account
            if account is None:
                raise FeedbackError(
                    "sign_in", "Send `Authorization: Bearer …`; tokens are made in the profile.", status=401
                )
            scopes = accounts.SCOPES[account.role]
        if self.scope not in scopes:
            raise FeedbackError("forbidden", f"This needs the scope {self.scope}, which you do not have.", status=403)
        return Member(request, site, account)


def _of_token(site: Site, token: str) -> tuple[Account, frozenset[Scope]]:
    with site.project.database.read() as connection:
        found = accounts.token_account(connection, token)
    if found is None:
        raise FeedbackError("bad_token", "This token is unknown, over or revoked.", status=401)
    return found


Worker = Annotated[Member, Depends(Caller("work"))]
Manager = Annotated[Member, Depends(Caller("manage"))]
