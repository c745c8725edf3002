"""The audit log: what was done, by whom, in a chain of hashes."""

import json
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback import audit_log
from plaudit.feedback.people import members
from plaudit.web.visit import Admin

router = APIRouter(prefix="/admin/log")

A_PAGE: Final = 100


@router.get("")
def log(member: Admin, before: int | None = None, verify: str = "") -> Response:
    """The newest events, or those before one; with `verify` the whole chain is walked."""
    with member.read() as connection:
        found = audit_log.events(connection, before=before, limit=A_PAGE + 1)
        verified = audit_log.verify(connection) if verify else None
        head = audit_log.head(connection)
        people = {one.id: one.pseudonym for one in members.members(connection)}
    return member.page(
        "admin_log.html",
        events=found[:A_PAGE],
        more=len(found) > A_PAGE,
        first=before is None,
        verified=verified,
        head=head,
        people=people,
        details={one.seq: json.dumps(one.detail, ensure_ascii=False) for one in found if one.detail},
    )
