"""From one raw row to records: the native fields, and the conventions of TRL, HH transcripts and chat messages.

Exports of labeling tools are in `exports.py`. Nothing here opens a file.
"""

from collections.abc import Mapping
from typing import Any, Literal

from plaudit.core.records import Comparison, Demonstration, Message, Prompt, PromptRow, Ranking, Source, user_prompt
from plaudit.datasets.fields import (
    conversation,
    label_name,
    messages,
    number,
    ranks,
    ranks_from_scores,
    require,
    text,
    weight,
)
from plaudit.datasets.problems import RowProblem, missing_field, shown_value
from plaudit.datasets.transcripts import is_transcript, transcript_demonstration, transcript_pair, transcript_prompt

Kind = Literal["demonstration", "ranking", "comparison", "prompt"]
Record = Demonstration | Ranking | Comparison | PromptRow
Row = Mapping[str, Any]

KNOWN_FIELDS = {
    "prompt", "response", "completion", "messages", "responses", "ranks", "chosen", "rejected",
    "labeler", "criterion", "weight", "margin", "label",
}  # fmt: skip


def native_kind(row: Row) -> Kind | None:
    """The kind of a row by its fields; None if there is nothing to go by."""

    def has(name: str) -> bool:
        return row.get(name) is not None

    if has("chosen") or has("rejected"):
        return "comparison"
    if has("responses"):
        return "ranking"
    if has("response") or has("completion"):
        return "demonstration"
    if has("messages") and isinstance(row["messages"], list) and row["messages"]:
        last = row["messages"][-1]
        return "demonstration" if isinstance(last, dict) and last.get("role") == "assistant" else "prompt"
    return "prompt" if has("prompt") else None


def demonstration(row: Row, source: Source) -> Demonstration:
    """`prompt` with `response` (TRL: `completion`), or `messages` that end with the answer."""
    name = "response" if row.get("response") is not None or row.get("completion") is None else "completion"
    if isinstance(row.get("label"), bool):
        raise RowProblem(
            f"`label` is {row['label']}: these are answers marked good or bad one by one, not ideal answers; "
            "keep the good ones and remove `label`"
        )
    if row.get(name) is None and row.get("messages") is not None:
        prompt, response = _answered(messages(row["messages"], "messages"), "messages")
        return Demonstration(prompt, response, source)
    if row.get("prompt") is None and is_transcript(row.get(name)):
        return Demonstration(*transcript_demonstration(row[name], name), source)
    prompt = _prompt(require(row, "prompt"), "prompt")
    return Demonstration(prompt, _answer(require(row, name), name, prompt), source)


def ranking(row: Row, source: Source) -> Ranking:
    """`prompt`, `responses`, and either `ranks` or a `score` in each response (the highest is the best)."""
    prompt = _prompt(require(row, "prompt"), "prompt")
    items = require(row, "responses")
    if not isinstance(items, list):
        raise RowProblem(f"`responses` is {shown_value(items)}; write a list of answers")
    if len(items) < 2:
        raise RowProblem(f"`responses` has {len(items)} answer(s); a ranking needs two or more")
    texts: list[str] = []
    for place, item in enumerate(items, start=1):
        value = require(item, "text") if isinstance(item, dict) else item
        texts.append(text(value, f"responses[{place}]"))
    return Ranking(
        prompt,
        tuple(texts),
        _ranks(row, items),
        labeler=label_name(row.get("labeler"), "labeler"),
        criterion=label_name(row.get("criterion"), "criterion"),
        weight=weight(row),
        source=source,
    )


def comparison(row: Row, source: Source) -> Comparison:
    """`chosen` and `rejected`, with a `prompt` or sharing the conversation before the answer."""
    chosen, rejected = require(row, "chosen"), require(row, "rejected")
    if row.get("prompt") is not None:
        prompt = _prompt(row["prompt"], "prompt")
        better, worse = _answer(chosen, "chosen", prompt), _answer(rejected, "rejected", prompt)
    elif is_transcript(chosen) and is_transcript(rejected):
        prompt, better, worse = transcript_pair(chosen, rejected)
    elif isinstance(chosen, list) and isinstance(rejected, list):
        prompt, better = _answered(messages(chosen, "chosen"), "chosen")
        other, worse = _answered(messages(rejected, "rejected"), "rejected")
        if other != prompt:
            raise RowProblem(
                "`chosen` and `rejected` differ before the last answer; compare two answers to the same conversation"
            )
    else:
        raise missing_field("prompt", row)
    margin, label = row.get("margin"), row.get("label")
    return Comparison(
        prompt,
        text(better, "chosen"),
        text(worse, "rejected"),
        margin=None if margin is None else number(margin, "margin"),
        weight=weight(row),
        label=1.0 if label is None else number(label, "label", low=0.0, high=1.0),
        labeler=label_name(row.get("labeler"), "labeler"),
        source=source,
    )


def prompt_row(row: Row, source: Source) -> PromptRow:
    """The prompt of a row of any kind."""
    if row.get("prompt") is not None:
        return PromptRow(_prompt(row["prompt"], "prompt"), source)
    if row.get("messages") is not None:
        turns = messages(row["messages"], "messages")
        return PromptRow(conversation(turns[:-1] if turns[-1].role == "assistant" else turns, "messages"), source)
    if row.get("chosen") is not None:
        return PromptRow(comparison(row, source).prompt, source)
    raise missing_field("prompt", row)


def _prompt(value: Any, name: str) -> Prompt:
    if isinstance(value, list):
        return conversation(messages(value, name), name)
    if is_transcript(value):
        return transcript_prompt(value, name)
    return user_prompt(text(value, name))


def _answer(value: Any, name: str, prompt: Prompt) -> str:
    """An answer as text, or as messages: the assistant's one, perhaps after the conversation told once more."""
    if not isinstance(value, list):
        return text(value, name)
    turns = messages(value, name)
    if turns[-1].role != "assistant":
        raise RowProblem(
            f"the last message of `{name}` is from the {turns[-1].role}; it must be the assistant's answer"
        )
    before = turns[:-1]
    if before and before not in (prompt, prompt[-1:]):
        raise RowProblem(f"`{name}` tells another conversation than `prompt`; remove all but the answer from `{name}`")
    return turns[-1].content


def _answered(turns: tuple[Message, ...], name: str) -> tuple[Prompt, str]:
    if turns[-1].role != "assistant":
        raise RowProblem(
            f"the last message of `{name}` is from the {turns[-1].role}; it must be the assistant's answer"
        )
    if len(turns) == 1:
        raise RowProblem(f"`{name}` has an answer but no user message; an answer needs something to answer")
    return conversation(turns[:-1], name), turns[-1].content


def _ranks(row: Row, items: list[Any]) -> tuple[int, ...]:
    if row.get("ranks") is not None:
        return ranks(row["ranks"], len(items))
    scored = [isinstance(item, dict) and item.get("score") is not None for item in items]
    if not any(scored):
        raise RowProblem(
            f"no field `ranks` and no `score` in any response; the row has {', '.join(f'`{name}`' for name in row)}; "
            "give each response a rank (1 is best, equal ranks are ties)"
        )
    if not all(scored):
        raise RowProblem(f"response {scored.index(False) + 1} has no `score`; score it or remove it from the row")
    return ranks_from_scores([number(item["score"], f"responses[{i}].score") for i, item in enumerate(items, start=1)])
