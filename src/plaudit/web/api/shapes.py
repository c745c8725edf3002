"""What the API takes and gives, as types. Nothing here names a gold question or where a response comes from.

Receipts and past work go out as `submissions.Receipt` and `history.PastPage` describe them.
"""

from dataclasses import asdict
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from plaudit.feedback.people.members import Account
from plaudit.feedback.tasks.answers import as_json
from plaudit.feedback.work.assignment import Assignment
from plaudit.web.answers import DemonstrationDraft, RankingDraft


class Shape(BaseModel):
    """Base: closed against unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Claim(Shape):
    """Ask for a task."""

    batch_id: str | None = Field(None, max_length=32)
    purpose: Literal["work", "training", "qualification"] = "work"


class MessageOut(Shape):
    role: str
    content: str


class ResponseOut(Shape):
    id: str
    body: str


class FlagOut(Shape):
    key: str
    label: str
    help: str


class DraftOut(Shape):
    revision: int
    payload: RankingDraft | DemonstrationDraft
    updated_at: int


class AssignmentOut(Shape):
    """A task in hand. Times are milliseconds since 1970 in UTC."""

    id: str
    batch_id: str
    batch_name: str
    kind: Literal["ranking", "demonstration"]
    purpose: Literal["work", "training", "qualification"]
    state: str
    prompt: list[MessageOut]
    responses: list[ResponseOut] = Field(description="In the order in which this labeler is to see them.")
    flags: list[FlagOut]
    guideline_version: int
    reason_required: bool
    lease_no: int
    lease_expires_at: int
    idempotency_key: str = Field(description="Send it back with the submit; sending it twice submits once.")
    draft: DraftOut | None
    answer: RankingDraft | DemonstrationDraft | None = Field(description="What was submitted before.")

    @classmethod
    def of(cls, found: Assignment) -> Self:
        """What its labeler may know of an assignment."""
        draft = found.draft and {
            "revision": found.draft.revision,
            "payload": found.draft.payload,
            "updated_at": found.draft.updated_at,
        }
        return cls.model_validate(
            {
                **{name: getattr(found, name) for name in _COPIED},
                "prompt": [{"role": message.role, "content": message.content} for message in found.prompt],
                "responses": [{"id": shown.id, "body": shown.body} for shown in found.responses],
                "flags": [asdict(flag) for flag in found.flags],
                "reason_required": found.config.reason_required,
                "draft": draft,
                "answer": found.answer and as_json(found.answer),
            }
        )


_COPIED = (
    "id",
    "batch_id",
    "batch_name",
    "kind",
    "purpose",
    "state",
    "guideline_version",
    "lease_no",
    "lease_expires_at",
    "idempotency_key",
)


class DraftIn(Shape):
    """Save a draft over the one with number `revision`; 0 if there was none."""

    revision: int = Field(ge=0)
    payload: RankingDraft | DemonstrationDraft


class DraftSaved(Shape):
    revision: int


class SubmitIn(Shape):
    """An answer, with the lease it was made under. The idempotency key goes into the header."""

    lease_no: int = Field(ge=1)
    active_ms: int | None = Field(None, ge=0, le=86_400_000, description="Time spent on it, if known.")
    answer: RankingDraft | DemonstrationDraft


class Beat(Shape):
    lease_no: int = Field(ge=1)


class Lease(Shape):
    lease_expires_at: int
    lease_left_ms: int


class SkipIn(Shape):
    reason: Literal["unclear", "too_long", "not_my_field", "distressing", "broken"]


class Undone(Shape):
    assignment_id: str


class Me(Shape):
    """The member a token belongs to."""

    id: str
    role: str
    state: str
    pseudonym: str

    @classmethod
    def of(cls, account: Account) -> Self:
        return cls(id=account.id, role=account.role, state=account.state, pseudonym=account.pseudonym)


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable: branch on it, not on the sentence."""

    type: str
    title: str
    status: int
    code: str
    detail: str
