"""One's own data, as a file."""

import json

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback.privacy.own_data import own_data
from plaudit.web.visit import Labeler

router = APIRouter(prefix="/profile/data")


@router.get("")
def download(member: Labeler) -> Response:
    """All that this project holds about the member who asks."""
    with member.read() as connection:
        data = own_data(connection, member.site.project.secrets, member.account.id)
    return Response(
        json.dumps(data, ensure_ascii=False, indent=2),
        media_type="application/json",
        # Never shown inline: it holds what models and people wrote.
        headers={"Content-Disposition": f'attachment; filename="plaudit-{member.account.pseudonym}.json"'},
    )
