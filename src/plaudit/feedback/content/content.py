"""Prompts and responses with where they come from. The same text is stored once, however often it is brought in."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, Table, select, update
from sqlalchemy.dialects import postgresql, sqlite

from plaudit.core.errors import DataError
from plaudit.core.records import Prompt, prompt_of_turns
from plaudit.feedback.store import clock, tables

OriginKind = Literal["model", "import", "person"]
Split = Literal["train", "validation", "test"]

SPLIT_SHARES: tuple[tuple[Split, float], ...] = (("test", 0.05), ("validation", 0.05))  # the rest is for training
_ROWS_AT_ONCE = 2000
_START = 200


@dataclass(frozen=True, slots=True)
class NewPrompt:
    """A conversation to be stored. Without a split it gets one from its text, the same on every machine."""

    messages: Prompt
    origin_id: str
    split: Split | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewResponse:
    """A response to a stored prompt. `details`: seed, tokens, finish reason, scores."""

    prompt_id: str
    body: str
    origin_id: str
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Added(NamedTuple):
    """Ids in the order of what was given; how many of these texts were new, and how many known already."""

    ids: list[str]
    new: int
    known: int


def add_origin(connection: Connection, kind: OriginKind, name: str, info: Mapping[str, Any]) -> str:
    """The id of an origin, stored now or found: the same kind, name and info are the same origin.

    info: what is needed to tell how the texts were made: run folder, hashes of checkpoint and settings, sampling
          settings; or the file, its hash and licence.
    """
    fingerprint = _sha256(_canonical([kind, name, dict(info)]))
    _insert_missing(
        connection,
        tables.origin,
        [
            {
                "id": tables.new_id(),
                "kind": kind,
                "name": name,
                "fingerprint": fingerprint,
                "info": dict(info),
                "created_at": clock.now(),
            }
        ],
    )
    return connection.execute(select(tables.origin.c.id).where(tables.origin.c.fingerprint == fingerprint)).scalar_one()


def add_prompts(connection: Connection, prompts: Iterable[NewPrompt]) -> Added:
    """Store prompts; a known conversation keeps its id, its split and where it first came from.

    Raises DataError for a conversation that is empty, too long or holds characters no database can keep.
    """
    ids: list[str] = []
    new = 0
    iterator = iter(prompts)
    while chunk := list(islice(iterator, _ROWS_AT_ONCE)):
        rows = [_prompt_row(prompt) for prompt in chunk]
        _insert_missing(connection, tables.prompt, rows)
        known = _known_prompts(connection, [row["sha256"] for row in rows])
        stored = [known[row["sha256"]] for row in rows]
        new += _count_new(rows, stored)
        ids += stored
    return Added(ids, new, len(ids) - new)


def add_responses(
    connection: Connection,
    prompt_id: str,
    texts: Sequence[str],
    origin_id: str,
    details: Sequence[Mapping[str, Any]] | None = None,
) -> list[str]:
    """Store responses of one origin to one prompt; the id of each text, the same for equal texts.

    Raises DataError for a text that is empty, too long or holds characters no database can keep.
    """
    given: Sequence[Mapping[str, Any]] = details or [dict[str, Any]()] * len(texts)
    responses = [NewResponse(prompt_id, text, origin_id, detail) for text, detail in zip(texts, given, strict=True)]
    return add_many_responses(connection, responses).ids


def add_many_responses(connection: Connection, responses: Iterable[NewResponse]) -> Added:
    """Store responses to many prompts; the same text of the same origin to the same prompt is one response."""
    ids: list[str] = []
    new = 0
    iterator = iter(responses)
    while chunk := list(islice(iterator, _ROWS_AT_ONCE)):
        rows = [_response_row(response) for response in chunk]
        _insert_missing(connection, tables.response, rows)
        known = _known_responses(connection, sorted({response.prompt_id for response in chunk}))
        stored = [known[row["prompt_id"], row["origin_id"], row["sha256"]] for row in rows]
        new += _count_new(rows, stored)
        ids += stored
    return Added(ids, new, len(ids) - new)


def set_prompt_status(connection: Connection, prompt_id: str, status: Literal["active", "retired"]) -> None:
    """Retire a prompt from new batches, or bring it back."""
    connection.execute(update(tables.prompt).where(tables.prompt.c.id == prompt_id).values(status=status))


def read_prompt(row: Row[Any] | Mapping[str, Any]) -> Prompt:
    """The conversation in a row of `prompt`."""
    messages = row["messages"] if isinstance(row, Mapping) else row.messages
    return prompt_of_turns(messages)


def prompt_start(row: Row[Any]) -> str:
    """How the last message of the prompt in a row begins: enough to recognise it in a list."""
    return read_prompt(row)[-1].content[:_START]


def prompt_sha256(messages: Prompt) -> str:
    """The key by which a conversation is recognised."""
    return _sha256(_canonical([[message.role, message.content] for message in messages]))


def text_sha256(text: str) -> str:
    """The key by which a response is recognised."""
    return _sha256(text)


def split_of(key: str) -> Split:
    """The split of a prompt, from its SHA-256: decided once, by nothing but the text, so that no import can move it."""
    place = int(hashlib.sha256(f"split {key}".encode()).hexdigest()[:12], 16) / 16**12
    for split, share in SPLIT_SHARES:
        if place < share:
            return split
        place -= share
    return "train"


def _prompt_row(prompt: NewPrompt) -> dict[str, Any]:
    if not prompt.messages:
        raise DataError("A prompt without any message. Give at least one.")
    for message in prompt.messages:
        _check_text(message.role, "role")
        _check_text(message.content, "prompt", empty=True)
    key = prompt_sha256(prompt.messages)
    return {
        "id": tables.new_id(),
        "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
        "sha256": key,
        "chars": _check_size(sum(len(message.content) for message in prompt.messages), "prompt"),
        "origin_id": prompt.origin_id,
        "split": prompt.split or split_of(key),
        "tags": list(prompt.tags),
        "status": "active",
        "created_at": clock.now(),
    }


def _response_row(response: NewResponse) -> dict[str, Any]:
    _check_text(response.body, "response")
    return {
        "id": tables.new_id(),
        "prompt_id": response.prompt_id,
        "body": response.body,
        "sha256": text_sha256(response.body),
        "chars": _check_size(len(response.body), "response"),
        "origin_id": response.origin_id,
        "details": dict(response.details),
        "created_at": clock.now(),
    }


def _check_size(chars: int, what: str) -> int:
    if not 1 <= chars <= tables.MAX_CHARS:
        raise DataError(
            f"A {what} of {chars} characters; it needs 1 to {tables.MAX_CHARS}. Leave it out or shorten it."
        )
    return chars


def _check_text(text: str, what: str, *, empty: bool = False) -> None:
    if not text and not empty:
        raise DataError(f"An empty {what}. Leave it out.")
    if "\0" in text:
        raise DataError(f"A {what} holds the character NUL (U+0000), which PostgreSQL cannot keep. Remove it.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"A {what} holds half of a character (U+{ord(text[error.start]):04X} at {error.start}). Repair the text."
        ) from None


def _insert_missing(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert the rows that clash with nothing."""
    new_insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    connection.execute(new_insert(table).on_conflict_do_nothing(), rows)


def _count_new(rows: list[dict[str, Any]], ids: list[str]) -> int:
    """How many rows lie in the database under the id that they were given here."""
    return sum(row["id"] == stored for row, stored in zip(rows, ids, strict=True))


def _known_prompts(connection: Connection, keys: list[str]) -> dict[str, str]:
    prompt = tables.prompt
    found = connection.execute(select(prompt.c.sha256, prompt.c.id).where(prompt.c.sha256.in_(keys)))
    return {row.sha256: row.id for row in found}


def _known_responses(connection: Connection, prompt_ids: list[str]) -> dict[tuple[str, str, str], str]:
    response = tables.response
    found = connection.execute(
        select(response.c.prompt_id, response.c.origin_id, response.c.sha256, response.c.id).where(
            response.c.prompt_id.in_(prompt_ids)
        )
    )
    return {(prompt_id, origin_id, key): row_id for prompt_id, origin_id, key, row_id in found}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _sha256(text: str) -> str:
    # A text with half of a character gets a key too; whether it may be stored is decided elsewhere, with a clear error.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
