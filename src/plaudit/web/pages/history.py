"""One's own past work, and taking back what was just submitted."""

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback.work import history, submissions
from plaudit.web.visit import Labeler

router = APIRouter(prefix="/history")


@router.get("")
def past(member: Labeler, page: int = 1) -> Response:
    """What one submitted, newest first."""
    with member.read() as connection:
        found = history.history(connection, member.account.id, min(max(page, 1), 100_000))
    return member.page("history.html", found=found)


@router.post("/{submission_id}/undo")
def undo(member: Labeler, submission_id: str) -> Response:
    """Open the task again, as it was."""
    with member.write() as connection:
        assignment_id = submissions.undo(connection, member.account.id, submission_id)
    return member.redirect(f"/work/{assignment_id}", note="undone")
