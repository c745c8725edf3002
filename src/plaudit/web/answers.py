"""Between the fields of a work page, the draft that is kept, and the answer that is submitted."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from string import ascii_uppercase
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import FormData

from plaudit.feedback.store.tables import MAX_CHARS, MAX_RESPONSES
from plaudit.feedback.tasks.answers import Answer, DemonstrationAnswer, RankingAnswer
from plaudit.feedback.tasks.tasks import Shown
from plaudit.feedback.work.assignment import Assignment
from plaudit.web.visit import text_field

LETTERS: Final = ascii_uppercase[:MAX_RESPONSES]
MAX_REASON: Final = 20_000


class _Draft(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str = Field("", max_length=MAX_REASON)
    confidence: int | None = Field(None, ge=1, le=5)


class RankingDraft(_Draft):
    """A ranking as far as it is filled in. The tiers may have gaps and may miss responses."""

    tiers: dict[str, int] = Field({}, max_length=MAX_RESPONSES)
    none_acceptable: bool = False
    flags: dict[str, list[str]] = Field({}, max_length=MAX_RESPONSES)


class DemonstrationDraft(_Draft):
    """An ideal answer as far as it is written."""

    text: str = Field("", max_length=MAX_CHARS)


Draft = RankingDraft | DemonstrationDraft


def read_draft(kind: str, payload: Mapping[str, Any]) -> Draft:
    """A kept draft, or an empty one from an empty payload."""
    return (RankingDraft if kind == "ranking" else DemonstrationDraft).model_validate(payload)


def draft_of_form(task: Assignment, form: FormData) -> Draft:
    """What the page was sent with. Fields that the task does not have are not looked at."""
    about = {"reason": text_field(form, "reason")[:MAX_REASON], "confidence": _digit(form, "confidence", 5)}
    if task.kind == "demonstration":
        return DemonstrationDraft(text=text_field(form, "text")[:MAX_CHARS], **about)
    known = {flag.key for flag in task.flags}
    ids = [shown.id for shown in task.responses]
    ranks = {shown: _digit(form, f"rank-{shown}", len(ids)) for shown in ids}
    flags = {shown: sorted({str(flag) for flag in form.getlist(f"flag-{shown}")} & known) for shown in ids}
    return RankingDraft(
        tiers={shown: rank for shown, rank in ranks.items() if rank is not None},
        none_acceptable="none" in form,
        flags={shown: given for shown, given in flags.items() if given},
        **about,
    )


def missing(task: Assignment, draft: Draft) -> list[str]:
    """What is still to be filled in before it can be submitted, in sentences."""
    found: list[str] = []
    if isinstance(draft, RankingDraft) and not draft.none_acceptable:
        unranked = [letter for name, letter in letters_of(task.responses).items() if name not in draft.tiers]
        if unranked:
            found.append(f"Give a rank to {_listed(unranked)}, or say that none is acceptable.")
    if isinstance(draft, DemonstrationDraft) and not draft.text.strip():
        found.append("Write the answer.")
    if task.config.reason_required and not draft.reason.strip():
        found.append("Give a reason: one or two sentences are enough.")
    return found


def settled(task: Assignment, draft: Draft) -> Draft:
    """The draft without a ranking that was only begun before none was found acceptable: radios cannot be emptied."""
    if isinstance(draft, RankingDraft) and draft.none_acceptable and len(draft.tiers) < len(task.responses):
        return draft.model_copy(update={"tiers": {}})
    return draft


def answer_of_draft(draft: Draft) -> Answer:
    """The answer to submit."""
    if isinstance(draft, DemonstrationDraft):
        return DemonstrationAnswer(text=draft.text, reason=draft.reason, confidence=draft.confidence)
    return RankingAnswer(
        tiers=draft.tiers,
        none_acceptable=draft.none_acceptable,
        flags=dict(draft.flags),
        reason=draft.reason,
        confidence=draft.confidence,
    )


def letters_of(responses: Iterable[Shown]) -> dict[str, str]:
    """Response -> the letter it has on the page, in the order in which it is shown there."""
    return {shown.id: letter for letter, shown in zip(LETTERS, responses, strict=False)}


def order_in_words(responses: Iterable[Shown], ranks: Mapping[str, int]) -> str:
    """ "B > A = C; D to go", with the letters of the page. `work.js` says the same while ranks are given."""
    letters = letters_of(responses)
    ranked = sorted((name for name in letters if name in ranks), key=lambda name: (ranks[name], letters[name]))
    if not ranked:
        return "Nothing ranked yet"
    words = letters[ranked[0]]
    for before, name in pairwise(ranked):
        words += f" {'=' if ranks[name] == ranks[before] else '>'} {letters[name]}"
    rest = [letter for name, letter in letters.items() if name not in ranks]
    return words + (f"; {', '.join(rest)} to go" if rest else "")


def _digit(form: FormData, name: str, largest: int) -> int | None:
    value = text_field(form, name)
    return int(value) if len(value) == 1 and value in "123456789"[:largest] else None


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
