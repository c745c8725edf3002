"""What people wrote and judged, as immutable records. No input or output here; see `datasets` for the formats.

A record that breaks its own rules cannot be built: the constructor raises `DataError` naming the file and line.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from plaudit.core.errors import DataError


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `role` is "system", "user" or "assistant", or what the chat template knows."""

    role: str
    content: str


Prompt = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a row came from. Lines count from 1; 0 means that the row was never in a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


IN_MEMORY = Source("in memory", 0)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and the answer a person considers ideal."""

    prompt: Prompt
    response: str
    source: Source = IN_MEMORY


@dataclass(frozen=True, slots=True)
class Ranking:
    """Several answers to one prompt, ordered by one labeler. `ranks`: 1 is best, equal numbers are ties."""

    prompt: Prompt
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    labeler: str | None = None
    criterion: str | None = None
    weight: float = 1.0
    source: Source = IN_MEMORY

    def __post_init__(self) -> None:
        if len(self.responses) < 2:
            raise DataError(f"{self.source}: a ranking needs two or more responses, found {len(self.responses)}.")
        if len(self.ranks) != len(self.responses):
            raise DataError(
                f"{self.source}: {len(self.responses)} responses but {len(self.ranks)} ranks; "
                "give each response exactly one rank."
            )
        if min(self.ranks) < 1:
            raise DataError(f"{self.source}: rank {min(self.ranks)}; ranks count from 1 (best).")
        _check_weight(self.weight, self.source)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers to one prompt, of which `chosen` was preferred.

    label:  probability that `chosen` really is the better one: 1 is certain, 0.5 is a tie.
    margin: by how much it is better, in the labeler's own unit; None where nobody said.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    margin: float | None = None
    weight: float = 1.0
    label: float = 1.0
    labeler: str | None = None
    source: Source = IN_MEMORY

    def __post_init__(self) -> None:
        if not 0.0 <= self.label <= 1.0:
            raise DataError(f"{self.source}: label {self.label} is no probability; give a number from 0 to 1.")
        if self.margin is not None and not math.isfinite(self.margin):
            raise DataError(f"{self.source}: margin {self.margin}; give a finite number, or leave it out.")
        _check_weight(self.weight, self.source)

    def swap(self) -> Self:
        """The same judgment told from the other side: answers exchanged, label and margin turned round."""
        return replace(
            self,
            chosen=self.rejected,
            rejected=self.chosen,
            label=1.0 - self.label,
            margin=None if self.margin is None else -self.margin,
        )


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt without any answer: what sampling, PPO and evaluation start from."""

    prompt: Prompt
    source: Source = IN_MEMORY


@dataclass(frozen=True, slots=True)
class TokenGroup:
    """Token ids of one prompt and its responses. Each response ends with the end-of-turn token."""

    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """What a training hook returns to end training early, with the reason that the summary will give."""

    reason: str


def user_prompt(text: str) -> Prompt:
    """Plain text as a conversation of one user message."""
    return (Message("user", text),)


def prompt_of_turns(turns: Iterable[Mapping[str, str]]) -> Prompt:
    """A conversation as files and tables hold it: `{"role": …, "content": …}` for each turn."""
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)


def prompt_key(prompt: Prompt) -> str:
    """A stable hash of the conversation (32 hexadecimal digits): the unit of splitting, seeding and clustering."""
    text = json.dumps([[message.role, message.content] for message in prompt])
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()


def _check_weight(weight: float, source: Source) -> None:
    if not (math.isfinite(weight) and weight >= 0.0):
        raise DataError(f"{source}: weight {weight}; give a finite number of at least 0.")
