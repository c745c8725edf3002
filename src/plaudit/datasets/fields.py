"""The checks of single fields. Each returns the checked value or raises RowProblem."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from plaudit.core.records import Message, Prompt
from plaudit.datasets.problems import RowProblem, missing_field, shown_value

MAX_TEXT = 4_000_000  # characters; also the limit, in bytes, of a line
ROLES = ("system", "user", "assistant")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ROLE_REMEDIES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "ai": "assistant"}


def require(row: Mapping[str, Any], name: str) -> Any:
    """The value of a field that must be there and not null."""
    if row.get(name) is None:
        raise missing_field(name, {field: value for field, value in row.items() if value is not None})
    return row[name]


def text(value: Any, name: str) -> str:
    """Text that is not blank, not huge, and can be written as UTF-8. Returned as it is, not stripped."""
    if not isinstance(value, str):
        raise RowProblem(f"`{name}` is {shown_value(value)}; write text")
    if not value.strip():
        raise RowProblem(f"`{name}` is empty; write some text or remove the row")
    if len(value) > MAX_TEXT:
        raise RowProblem(f"`{name}` has {len(value):,} characters; shorten it to at most {MAX_TEXT:,}")
    if not value.isascii() and _SURROGATE.search(value):
        raise RowProblem(f"`{name}` holds half of a surrogate pair (\\ud800 to \\udfff); write the whole character")
    return value


def label_name(value: Any, name: str) -> str | None:
    """An optional short name (labeler, criterion). Numbers become text; absent or blank becomes None."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    raise RowProblem(f"`{name}` is {shown_value(value)}; write a name")


def number(value: Any, name: str, *, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number between `low` and `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowProblem(f"`{name}` is {shown_value(value)}; write a number")
    if not math.isfinite(value) or not low <= value <= high:
        bounds = f" from {low:g} to {high:g}" if math.isfinite(high) else f" of at least {low:g}"
        remedy = f"write a finite number{bounds if math.isfinite(low) else ''}"
        raise RowProblem(f"`{name}` is {value}; {remedy}")
    return float(value)


def weight(row: Mapping[str, Any]) -> float:
    """The weight of a judgment, 1 if none is given."""
    value = row.get("weight")
    return 1.0 if value is None else number(value, "weight", low=0.0)


def ranks(value: Any, responses: int) -> tuple[int, ...]:
    """One whole number from 1 for each response."""
    if not isinstance(value, list):
        raise RowProblem(f"`ranks` is {shown_value(value)}; write a list with one rank for each response")
    if len(value) != responses:
        raise RowProblem(f"{len(value)} `ranks` for {responses} `responses`; give each response exactly one rank")
    for place, rank in enumerate(value, start=1):
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise RowProblem(f"rank {place} is {shown_value(rank)}; ranks are whole numbers from 1 (best)")
    return tuple(value)


def ranks_from_scores(scores: Sequence[float]) -> tuple[int, ...]:
    """The highest score gets rank 1, the next lower one rank 2; equal scores are ties."""
    place = {score: rank for rank, score in enumerate(sorted(set(scores), reverse=True), start=1)}
    return tuple(place[score] for score in scores)


def messages(value: Any, name: str) -> tuple[Message, ...]:
    """A list of chat messages with known roles and text contents; only an earlier message may be empty."""
    if not isinstance(value, list) or not value:
        raise RowProblem(f"`{name}` is {shown_value(value)}; write a list of messages with `role` and `content`")
    checked: list[Message] = []
    for place, item in enumerate(value, start=1):
        where = f"{name}[{place}]"
        if not isinstance(item, dict) or "role" not in item or "content" not in item:
            raise RowProblem(f"`{where}` is {shown_value(item)}; write an object with `role` and `content`")
        role = item["role"]
        if role not in ROLES:
            meant = _ROLE_REMEDIES.get(role) if isinstance(role, str) else None
            remedy = f"write {meant}" if meant else f"use one of {', '.join(ROLES)}"
            raise RowProblem(f"`{where}` has the unknown role {shown_value(role)}; {remedy}")
        if role == "system" and place > 1:
            raise RowProblem(f"`{where}` is a system message in the middle; a conversation has one, at its start")
        last = place == len(value)
        content = item["content"]
        checked.append(Message(role, text(content, f"{where}.content") if last or content != "" else ""))
    return tuple(checked)


def conversation(turns: Sequence[Message], name: str) -> Prompt:
    """Messages that an answer can follow: a user's turn at the end."""
    if not any(turn.role == "user" for turn in turns):
        raise RowProblem(f"`{name}` has no user message; an answer needs something to answer")
    if turns[-1].role != "user":
        raise RowProblem(
            f"the last message of `{name}` is from the {turns[-1].role}; end the prompt with the user's message"
        )
    text(turns[-1].content, name)
    return tuple(turns)
