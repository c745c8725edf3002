"""Dialogues as one text: `\\n\\nHuman: …\\n\\nAssistant: …`, as in the HH data."""

import re
from typing import Any

from plaudit.core.records import Message, Prompt
from plaudit.datasets.fields import conversation
from plaudit.datasets.problems import DroppableRow, RowProblem

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def is_transcript(value: Any) -> bool:
    """Whether a text is a dialogue: it opens with a person's turn, marked as one."""
    return isinstance(value, str) and value.startswith("\n\nHuman:")


def transcript_prompt(value: str, name: str) -> Prompt:
    """The conversation of a transcript that ends with an open `Assistant:` or with the person's turn."""
    turns = _turns(value)
    if turns[-1] == Message("assistant", ""):
        turns.pop()
    return conversation(turns, name)


def transcript_pair(chosen: str, rejected: str) -> tuple[Prompt, str, str]:
    """Prompt and the two last answers of a pair of transcripts.

    Raises DroppableRow where the two share no common conversation, or an answer is empty: the published data holds a
    few such rows.
    """
    better, worse = _answered(chosen, "chosen"), _answered(rejected, "rejected")
    if better[:-1] != worse[:-1]:
        raise DroppableRow(
            "transcripts differ before the answer",
            "`chosen` and `rejected` differ before the last answer; compare two answers to the same conversation",
        )
    return conversation(better[:-1], "chosen"), better[-1].content, worse[-1].content


def transcript_demonstration(value: str, name: str) -> tuple[Prompt, str]:
    """Prompt and last answer of one transcript."""
    turns = _answered(value, name)
    return conversation(turns[:-1], name), turns[-1].content


def _turns(value: str) -> list[Message]:
    _, *parts = _TURN.split(value)
    return [Message(_ROLES[speaker], said.strip()) for speaker, said in zip(parts[::2], parts[1::2], strict=True)]


def _answered(value: str, name: str) -> list[Message]:
    turns = _turns(value)
    if turns[-1].role != "assistant":
        raise RowProblem(
            f"the transcript `{name}` ends with the person's turn; it must end with the assistant's answer"
        )
    if not turns[-1].content:
        raise DroppableRow(
            "transcript with an empty answer", f"the last answer of `{name}` is empty; write it or remove the row"
        )
    return turns
