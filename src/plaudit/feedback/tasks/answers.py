"""What a labeler submits: a ranking with flags, or a written answer. Checked and brought into one form here."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, insert, select

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store.tables import MAX_CHARS, flag_entry, ranking_entry, submission, submission_text


@dataclass(frozen=True, slots=True)
class RankingAnswer:
    """Responses in tiers: 1 is best, equal numbers are ties.

    tiers:           of every response shown; gaps are closed. May be empty only where none is acceptable.
    none_acceptable: no response is good enough; a ranking may still be given.
    flags:           response id -> keys of the guidelines' flags.
    confidence:      1 (guessing) to 5 (certain); None if not said.
    """

    tiers: Mapping[str, int]
    none_acceptable: bool = False
    flags: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    reason: str = ""
    confidence: int | None = None

    @property
    def outcome(self) -> Literal["answered", "none_acceptable"]:
        return "none_acceptable" if self.none_acceptable else "answered"


@dataclass(frozen=True, slots=True)
class DemonstrationAnswer:
    """An ideal answer, written by the labeler."""

    text: str
    reason: str = ""
    confidence: int | None = None

    @property
    def outcome(self) -> Literal["answered"]:
        return "answered"


Answer = RankingAnswer | DemonstrationAnswer


def checked(
    answer: Answer, *, kind: str, shown: Sequence[str], known_flags: Collection[str], reason_required: bool
) -> Answer:
    """The answer in its one form: dense tiers, sorted flags without repeats, no space around the reason.

    Raises FeedbackError "invalid_answer" (422) that says what is missing or wrong.
    """
    if (kind == "demonstration") != isinstance(answer, DemonstrationAnswer):
        raise _invalid(f"this task asks for a {kind}")
    reason = answer.reason.strip()
    check_words(reason, "reason")
    if reason_required and not reason:
        raise _invalid("write a reason, this batch asks for one")
    if answer.confidence is not None and not 1 <= answer.confidence <= 5:
        raise _invalid(f"confidence {answer.confidence} is not on the scale from 1 to 5")
    if isinstance(answer, DemonstrationAnswer):
        if not answer.text.strip():
            raise _invalid("write an answer first")
        check_words(answer.text, "answer")
        return DemonstrationAnswer(answer.text, reason, answer.confidence)
    tiers = _dense(answer, shown)
    flags = _flags(answer, shown, known_flags)
    return RankingAnswer(tiers, answer.none_acceptable, flags, reason, answer.confidence)


def fingerprint(answer: Answer) -> str:
    """SHA-256 of a checked answer: the same request gives the same one."""
    return hashlib.sha256(json.dumps(as_json(answer), sort_keys=True, ensure_ascii=True).encode("ascii")).hexdigest()


def as_json(answer: Answer) -> dict[str, Any]:
    """The answer as a draft holds it."""
    common = {"reason": answer.reason, "confidence": answer.confidence}
    if isinstance(answer, DemonstrationAnswer):
        return {"text": answer.text, **common}
    return {
        "tiers": dict(answer.tiers),
        "none_acceptable": answer.none_acceptable,
        "flags": {name: list(flags) for name, flags in answer.flags.items()},
        **common,
    }


def store_answer(c: Connection, submission_id: str, answer: Answer) -> None:
    """Write the parts of an answer beside its submission."""
    words = {"reason": answer.reason}
    if isinstance(answer, DemonstrationAnswer):
        words["demonstration"] = answer.text
    else:
        rows: list[dict[str, Any]] = [{"response_id": name, "tier": tier} for name, tier in answer.tiers.items()]
        _insert(c, ranking_entry, submission_id, rows)
        flags = [{"response_id": name, "flag": flag} for name, raised in answer.flags.items() for flag in raised]
        _insert(c, flag_entry, submission_id, flags)
    _insert(c, submission_text, submission_id, [{"field": name, "body": text} for name, text in words.items() if text])


def load_answers(c: Connection, submission_ids: Sequence[str]) -> dict[str, Answer]:
    """The answers of submissions. Erased words are empty."""
    tiers: dict[str, dict[str, int]] = {name: {} for name in submission_ids}
    flags: dict[str, dict[str, list[str]]] = {name: {} for name in submission_ids}
    words: dict[str, dict[str, str]] = {name: {} for name in submission_ids}
    entry, flag, text = ranking_entry.c, flag_entry.c, submission_text.c
    for row in c.execute(select(ranking_entry).where(entry.submission_id.in_(submission_ids))):
        tiers[row.submission_id][row.response_id] = row.tier
    for row in c.execute(select(flag_entry).where(flag.submission_id.in_(submission_ids)).order_by(flag.flag)):
        flags[row.submission_id].setdefault(row.response_id, []).append(row.flag)
    for row in c.execute(select(submission_text).where(text.submission_id.in_(submission_ids))):
        words[row.submission_id][row.field] = row.body or ""
    written = {
        row.submission_id
        for row in c.execute(
            select(text.submission_id).where(text.submission_id.in_(submission_ids), text.field == "demonstration")
        )
    }
    query = select(submission.c.id, submission.c.outcome, submission.c.confidence)
    found: dict[str, Answer] = {}
    for row in c.execute(query.where(submission.c.id.in_(submission_ids))):
        reason = words[row.id].get("reason", "")
        if row.id in written:
            found[row.id] = DemonstrationAnswer(words[row.id]["demonstration"], reason, row.confidence)
        else:
            none = row.outcome == "none_acceptable"
            found[row.id] = RankingAnswer(tiers[row.id], none, flags[row.id], reason, row.confidence)
    return found


def check_words(text: str, what: str) -> None:
    """Raises FeedbackError "invalid_answer" for text that cannot be kept."""
    if len(text) > MAX_CHARS:
        raise _invalid(f"the {what} has {len(text)} characters, more than {MAX_CHARS}")
    if "\0" in text or (not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text)):
        raise _invalid(f"the {what} holds a character that cannot be stored (U+0000 or half of a character)")


def _dense(answer: RankingAnswer, shown: Sequence[str]) -> dict[str, int]:
    if set(answer.tiers) - set(shown):
        raise _invalid("it ranks a response that this task does not show; reload the page")
    if not answer.tiers and answer.none_acceptable:
        return {}
    if missing := [name for name in shown if name not in answer.tiers]:
        raise _invalid(f"{len(missing)} of {len(shown)} responses have no rank yet; give each one a rank")
    if min(answer.tiers.values()) < 1:
        raise _invalid(f"rank {min(answer.tiers.values())}; ranks count from 1 (best)")
    place = {tier: number for number, tier in enumerate(sorted(set(answer.tiers.values())), start=1)}
    return {name: place[answer.tiers[name]] for name in sorted(shown)}


def _flags(answer: RankingAnswer, shown: Sequence[str], known: Collection[str]) -> dict[str, list[str]]:
    for name, raised in answer.flags.items():
        if name not in shown:
            raise _invalid("it flags a response that this task does not show; reload the page")
        if unknown := set(raised) - set(known):
            raise _invalid(f"the guidelines have no flag {', '.join(sorted(unknown))}; they have {', '.join(known)}")
    return {name: sorted(set(answer.flags[name])) for name in sorted(answer.flags) if answer.flags[name]}


def _insert(c: Connection, table: Any, submission_id: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        c.execute(insert(table), [{"submission_id": submission_id, **row} for row in rows])


def _invalid(fact: str) -> FeedbackError:
    return FeedbackError("invalid_answer", f"The answer cannot be taken: {fact}.", status=422)
