"""The JSON API: what a labeler does on the pages, for programs and for the pages' own scripts.

Errors are `application/problem+json` with a stable `code`. A submit may be sent again with the same `Idempotency-Key`:
it counts once.
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, status
from starlette.responses import Response

from plaudit.feedback.store import clock
from plaudit.feedback.work import assignment, drafts, history, submissions
from plaudit.web.answers import answer_of_draft
from plaudit.web.api.caller import Worker
from plaudit.web.api.shapes import (
    AssignmentOut,
    Beat,
    Claim,
    DraftIn,
    DraftSaved,
    Lease,
    Me,
    Problem,
    SkipIn,
    SubmitIn,
    Undone,
)

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    code: {"model": Problem, "description": meaning}
    for code, meaning in (
        (401, "No token, or one that no longer works."),
        (403, "Not allowed."),
        (404, "Not there, or not yours."),
        (409, "Something changed in the meantime; see `code`."),
        (413, "Too large."),
        (422, "Something is missing or not understood."),
        (429, "Too fast; see Retry-After."),
        (503, "Busy; see Retry-After."),
    )
}
router = APIRouter(prefix="/api/v1", tags=["labeling"], responses=_PROBLEMS)


@router.get("/me")
def me(member: Worker) -> Me:
    """Who calls."""
    return Me.of(member.account)


@router.post("/claims", responses={204: {"description": "Nothing to do."}})
def claim(member: Worker, wanted: Claim) -> AssignmentOut:
    """The task that is open already, or the next one."""
    with member.write() as connection:
        found = assignment.claim(
            connection,
            member.account.id,
            secret=member.site.secret,
            batch_id=wanted.batch_id,
            purpose=wanted.purpose,
        )
    if found is None:
        return Response(status_code=status.HTTP_204_NO_CONTENT)  # type: ignore[return-value]
    return AssignmentOut.of(found)


@router.get("/assignments/{assignment_id}")
def read(member: Worker, assignment_id: str) -> AssignmentOut:
    """A task of the caller."""
    with member.read() as connection:
        return AssignmentOut.of(assignment.open_assignment(connection, member.account.id, assignment_id))


@router.post("/assignments/{assignment_id}/draft")
def save_draft(member: Worker, assignment_id: str, draft: DraftIn) -> DraftSaved:
    """Save what is typed so far. `stale_draft`: somewhere else a newer one was saved."""
    with member.write() as connection:
        payload = draft.payload.model_dump()
        saved = drafts.save_draft(connection, member.account.id, assignment_id, draft.revision, payload)
    return DraftSaved(revision=saved)


@router.post("/assignments/{assignment_id}/submit")
def submit(
    member: Worker,
    assignment_id: str,
    sent: SubmitIn,
    idempotency_key: Annotated[str, Header(min_length=1, max_length=64, description="From the assignment.")],
) -> submissions.Receipt:
    """Submit an answer, or edit a submitted one."""
    with member.write() as connection:
        return submissions.submit(
            connection,
            member.account.id,
            assignment_id,
            answer_of_draft(sent.answer),
            idempotency_key=idempotency_key,
            lease_no=sent.lease_no,
            active_ms=sent.active_ms,
        )


@router.post("/assignments/{assignment_id}/heartbeat")
def heartbeat(member: Worker, assignment_id: str, beat: Beat) -> Lease:
    """Keep the task while working on it."""
    with member.write() as connection:
        end = assignment.heartbeat(connection, member.account.id, assignment_id, beat.lease_no)
    return Lease(lease_expires_at=end, lease_left_ms=max(0, end - clock.now()))


@router.post("/assignments/{assignment_id}/skip", status_code=204)
def skip(member: Worker, assignment_id: str, sent: SkipIn) -> None:
    """Leave the task to others."""
    with member.write() as connection:
        assignment.skip(connection, member.account.id, assignment_id, sent.reason)


@router.post("/assignments/{assignment_id}/release", status_code=204)
def release(member: Worker, assignment_id: str) -> None:
    """Give the task back for now; its draft stays."""
    with member.write() as connection:
        assignment.release(connection, member.account.id, assignment_id)


@router.get("/history")
def past(member: Worker, page: Annotated[int, Query(ge=1, le=100_000)] = 1) -> history.PastPage:
    """What the caller submitted, newest first."""
    with member.read() as connection:
        return history.history(connection, member.account.id, page)


@router.post("/submissions/{submission_id}/undo")
def undo(member: Worker, submission_id: str) -> Undone:
    """Take back what was just submitted. The task is open again."""
    with member.write() as connection:
        return Undone(assignment_id=submissions.undo(connection, member.account.id, submission_id))
