"""Tasks out of content: a prompt with the responses that one person ranks, or a prompt to write an answer for."""

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select

from plaudit.core.seeding import derive
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store import clock
from plaudit.feedback.store.tables import (
    EVERYBODY,
    MAX_RESPONSES,
    gold_key,
    new_id,
    prompt,
    response,
    task,
    task_response,
)
from plaudit.feedback.tasks.batches import Batch, BatchConfig, Kind, get_batch
from plaudit.feedback.tasks.expected import Expected

_AT_ONCE = 400  # tasks a statement; both databases limit its parameters


class NewGold(NamedTuple):
    """The expected answer of a task and what is said about it after training."""

    expected: Expected
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class NewTask:
    """One task to be made.

    response_ids: what is ranked, 2 to 9 different texts; empty for a demonstration.
    selection:    why it was chosen, see `selection.Chosen.record`.
    """

    prompt_id: str
    response_ids: tuple[str, ...] = ()
    priority: float = 0.0
    selection: Mapping[str, Any] = field(default_factory=dict[str, Any])
    gold: NewGold | None = None


class Shown(NamedTuple):
    """A response as a labeler sees it: its text, and nothing about where it comes from."""

    id: str
    body: str


class Added(NamedTuple):
    """What became of the given tasks. `known` were in the batch already, word for word."""

    new: int
    known: int


class _Text(NamedTuple):
    id: str
    prompt_id: str
    sha256: str


def add_tasks(c: Connection, batch_id: str, items: Iterable[NewTask], *, by: str | None = None) -> Added:
    """Add tasks to a batch that is not closed. Equal texts of a task become one card; equal tasks of a batch one task.

    Raises FeedbackError "not_found", "wrong_status" or "invalid_task"; then nothing may be kept of this call.
    """
    found = get_batch(c, batch_id)
    if found.status == "closed":
        raise FeedbackError("wrong_status", f"The batch {found.name} is closed. Make a new one for these tasks.")
    iterator = iter(items)
    new = known = 0
    while chunk := list(islice(iterator, _AT_ONCE)):
        added = _add(c, found, chunk, by)
        new += added
        known += len(chunk) - added
    return Added(new, known)


def tasks_from_prompts(c: Connection, prompt_ids: Sequence[str], config: BatchConfig, kind: Kind) -> list[NewTask]:
    """One task for each prompt, or several where a prompt has more different responses than fit on a page.

    The responses are dealt at random into parts of equal size, so that no task holds one model's responses only.
    Prompts with fewer than two different responses have nothing to rank and are left out.
    """
    if kind == "demonstration":
        return [NewTask(prompt_id) for prompt_id in prompt_ids]
    tasks: list[NewTask] = []
    for start in range(0, len(prompt_ids), _AT_ONCE):
        wanted = prompt_ids[start : start + _AT_ONCE]
        texts: dict[str, list[_Text]] = {prompt_id: [] for prompt_id in wanted}
        for text in _texts(c, response.c.prompt_id.in_(wanted)):
            texts[text.prompt_id].append(text)
        for prompt_id in wanted:
            distinct = [text.id for text in _distinct(texts[prompt_id])]
            tasks += [NewTask(prompt_id, part) for part in _deal(distinct, config.responses_per_task, prompt_id)]
    return tasks


def responses_of(c: Connection, task_id: str) -> tuple[Shown, ...]:
    """What a task asks to rank, in its own order; each labeler sees another."""
    rows = c.execute(
        select(response.c.id, response.c.body)
        .join(task_response, task_response.c.response_id == response.c.id)
        .where(task_response.c.task_id == task_id)
        .order_by(task_response.c.slot)
    )
    return tuple(Shown(row.id, row.body) for row in rows)


def _add(c: Connection, found: Batch, items: Sequence[NewTask], by: str | None) -> int:
    prompts = {
        row.id: row
        for row in c.execute(
            select(prompt.c.id, prompt.c.sha256, prompt.c.status).where(prompt.c.id.in_({i.prompt_id for i in items}))
        )
    }
    wanted = sorted({response_id for item in items for response_id in item.response_ids})
    texts = {text.id: text for text in _texts(c, response.c.id.in_(wanted))}
    shown: dict[str, tuple[NewTask, list[_Text]]] = {}  # by content
    for item in items:
        if item.prompt_id not in prompts or prompts[item.prompt_id].status != "active":
            raise _invalid(f"the prompt {item.prompt_id} does not exist or was retired")
        cards = _cards(found, item, texts)
        digests = sorted(card.sha256 for card in cards)
        content = hashlib.sha256("\n".join([prompts[item.prompt_id].sha256, *digests]).encode("ascii")).hexdigest()
        shown.setdefault(content, (item, cards))
    present = set(
        c.execute(
            select(task.c.content_key).where(task.c.batch_id == found.id, task.c.content_key.in_(list(shown)))
        ).scalars()
    )
    tasks: list[dict[str, Any]] = []
    responses: list[dict[str, Any]] = []
    keys: list[dict[str, Any]] = []
    for content, (item, cards) in shown.items():
        if content in present:
            continue
        row = _task_row(found, item, content)
        tasks.append(row)
        responses += [
            {"task_id": row["id"], "response_id": card.id, "prompt_id": item.prompt_id, "slot": slot}
            for slot, card in enumerate(cards)
        ]
        if item.gold is not None:
            keys.append(_key_row(row["id"], item.gold, item, cards, texts, by))
    for table, rows in ((task, tasks), (task_response, responses), (gold_key, keys)):
        if rows:
            c.execute(insert(table), rows)
    return len(tasks)


def _task_row(found: Batch, item: NewTask, content: str) -> dict[str, Any]:
    selection = dict(item.selection)
    config = found.config
    overlap = config.overlap
    if item.gold is not None:
        overlap = EVERYBODY
    elif config.adaptive is not None:
        # The batch's id is random, so nobody can tell in advance which tasks are audited.
        selection["audited"] = derive(0, "audited", found.id, content) < config.adaptive.audited_share * 2**63
        overlap = config.adaptive.maximum if selection["audited"] else config.overlap
    return {
        "id": new_id(),
        "batch_id": found.id,
        "prompt_id": item.prompt_id,
        "status": "open",
        "overlap": overlap,
        "priority": item.priority,
        "selection": selection,
        "content_key": content,
        "created_at": clock.now(),
    }


def _cards(found: Batch, item: NewTask, texts: Mapping[str, _Text]) -> list[_Text]:
    """The different texts of a task, in an order that tells nothing about where they come from."""
    if found.purpose != "work" and item.gold is None:
        raise _invalid(f"a {found.purpose} batch holds questions with an expected answer only")
    for response_id in item.response_ids:
        if response_id not in texts or texts[response_id].prompt_id != item.prompt_id:
            raise _invalid(f"the response {response_id} is no response to the prompt {item.prompt_id}")
    if found.kind == "demonstration":
        if item.response_ids or item.gold:
            raise _invalid("a demonstration has no responses to rank and no expected answer")
        return []
    cards = _distinct([texts[response_id] for response_id in item.response_ids])
    if not 2 <= len(cards) <= MAX_RESPONSES:
        raise _invalid(
            f"the prompt {item.prompt_id} comes with {len(cards)} different responses; give 2 to {MAX_RESPONSES}"
        )
    return cards


def _key_row(
    task_id: str, gold: NewGold, item: NewTask, cards: Sequence[_Text], texts: Mapping[str, _Text], by: str | None
) -> dict[str, Any]:
    kept = {card.sha256: card.id for card in cards}
    expected = gold.expected.renamed({name: kept[texts[name].sha256] for name in item.response_ids})
    if missing := expected.response_ids() - {card.id for card in cards}:
        raise _invalid(f"the expected answer names {', '.join(sorted(missing))}, which the task does not show")
    return {
        "task_id": task_id,
        "expected": expected.model_dump(mode="json"),
        "explanation": gold.explanation,
        "created_by": by,
        "created_at": clock.now(),
    }


def _texts(c: Connection, condition: Any) -> Iterator[_Text]:
    query = select(response.c.id, response.c.prompt_id, response.c.sha256).where(condition)
    return (_Text(*row) for row in c.execute(query))


def _distinct(texts: Iterable[_Text]) -> list[_Text]:
    """Each different text once (the one with the smallest id), sorted by content."""
    kept: dict[str, _Text] = {}
    for text in sorted(texts):
        kept.setdefault(text.sha256, text)
    return [kept[sha256] for sha256 in sorted(kept)]


def _deal(ids: list[str], most: int, prompt_id: str) -> Iterator[tuple[str, ...]]:
    """`ids` in random parts of at most `most`, as equal as can be; a part of one gets a second from the others."""
    if len(ids) < 2:
        return
    order = random.Random(derive(0, "deal", prompt_id)).sample(ids, len(ids))
    parts = -(-len(ids) // most)
    for number in range(parts):
        part = order[number::parts]
        yield tuple(part if len(part) > 1 else [*part, order[0]])


def _invalid(fact: str) -> FeedbackError:
    return FeedbackError("invalid_task", f"This is no task: {fact}.", status=422)
