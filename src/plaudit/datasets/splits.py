"""Training and held-out data that share no prompt, and the checks that they really do not."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from plaudit.core.errors import DataError
from plaudit.core.records import Comparison, Demonstration, Prompt, PromptRow, Ranking, Source, prompt_key
from plaudit.core.seeding import derive

Record = Demonstration | Ranking | Comparison | PromptRow
T = TypeVar("T", bound=Record)


@dataclass(frozen=True, slots=True)
class Split(Generic[T]):
    """Rows for training and rows that training never sees, each in their old order."""

    train: list[T]
    held_out: list[T]


def split_by_prompt(rows: Sequence[T], *, held_out: float, seed: int) -> Split[T]:
    """Hold out a share of the prompts (below 1), or a number of them (1 and above), with all their rows.

    Prompts that differ only in case, spacing or punctuation stay together. The choice depends on the seed and the
    prompts' texts, not on their order, and hardly moves when rows are added: the prompts are ordered by a hash and the
    first are held out. Raises DataError if one of the two sides would be empty.
    """
    units = [near_key(row.prompt) for row in rows]
    ordered = sorted(set(units), key=lambda unit: (derive(seed, "split", unit), unit))
    if held_out <= 0 or (held_out >= 1 and held_out != int(held_out)):
        raise DataError(f"held_out={held_out}: give a share between 0 and 1, or a whole number of prompts.")
    wanted = max(1, round(held_out * len(ordered))) if held_out < 1 else int(held_out)
    if wanted >= len(ordered):
        raise DataError(
            f"held_out={held_out} takes {wanted} of {len(ordered)} distinct prompts and leaves none for training. "
            "Give a smaller number, or more data."
        )
    chosen = set(ordered[:wanted])
    return Split(
        [row for row, unit in zip(rows, units, strict=True) if unit not in chosen],
        [row for row, unit in zip(rows, units, strict=True) if unit in chosen],
    )


def exclude_prompts(rows: Sequence[T], keys: Collection[str]) -> list[T]:
    """The rows whose `prompt_key` is not among `keys`."""
    return [row for row in rows if prompt_key(row.prompt) not in keys]


class Leaks(NamedTuple):
    """Prompts on both sides of a split."""

    same: tuple[str, ...]  # prompt keys
    near: tuple[tuple[Source, Source], ...]  # (training row, held-out row): equal but for case, spacing, punctuation


def find_leaks(train: Iterable[Record], held_out: Iterable[Record]) -> Leaks:
    """Prompts that are on both sides, exactly or nearly; each distinct prompt is told once."""
    trained: defaultdict[str, dict[str, Source]] = defaultdict(dict)
    for row in train:
        trained[near_key(row.prompt)].setdefault(prompt_key(row.prompt), row.source)
    same: list[str] = []
    near: list[tuple[Source, Source]] = []
    for key, row in {prompt_key(row.prompt): row for row in held_out}.items():
        alike = trained.get(near_key(row.prompt), {})
        if key in alike:
            same.append(key)
        elif alike:
            near.append((next(iter(alike.values())), row.source))
    return Leaks(tuple(same), tuple(near))


def check_leaks(train: Iterable[Record], held_out: Iterable[Record]) -> None:
    """Raises DataError if a prompt is on both sides, exactly or nearly."""
    leaks = find_leaks(train, held_out)
    if leaks.same or leaks.near:
        example = f" (for example {leaks.near[0][0]} and {leaks.near[0][1]})" if leaks.near else ""
        raise DataError(
            f"{len(leaks.same)} held-out prompts are in the training data too, and {len(leaks.near)} nearly so"
            f"{example}. A result on them would flatter the model: remove them from one side (exclude_prompts)."
        )


class Duplicate(NamedTuple):
    """A row that says what an earlier one said; `opposite` if it says the reverse."""

    first: Source
    again: Source
    opposite: bool


def find_duplicates(rows: Iterable[Record]) -> list[Duplicate]:
    """Rows that repeat an earlier row (same prompt, answers and labeler), with the same or the opposite judgment."""
    seen: dict[tuple[object, ...], Source] = {}
    duplicates: list[Duplicate] = []
    for row in rows:
        who = getattr(row, "labeler", None)
        said, reverse = _said(row)
        key = (prompt_key(row.prompt), who)
        if (first := seen.get((*key, said))) is not None:
            duplicates.append(Duplicate(first, row.source, opposite=False))
        elif reverse is not None and (first := seen.get((*key, reverse))) is not None:
            duplicates.append(Duplicate(first, row.source, opposite=True))
        seen.setdefault((*key, said), row.source)
    return duplicates


def near_key(prompt: Prompt) -> str:
    """A key that prompts share when they differ only in case, spacing, punctuation or Unicode form."""
    words = "\n".join(
        " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", message.content).casefold())) for message in prompt
    )
    return words if words.strip() else prompt_key(prompt)


def _said(row: Record) -> tuple[object, object | None]:
    """What a row says, in a form that does not depend on the order of its answers, and the reverse of it."""
    match row:
        case Demonstration():
            return row.response, None
        case Ranking():
            order = sorted(set(row.ranks))
            places = [order.index(rank) for rank in row.ranks]
            said = tuple(sorted(zip(row.responses, places, strict=True)))
            turned = tuple(
                sorted((text, len(order) - 1 - place) for text, place in zip(row.responses, places, strict=True))
            )
            return (row.criterion, said), (row.criterion, turned) if turned != said else None
        case Comparison():
            if row.label == 0.5:
                return frozenset((row.chosen, row.rejected)), None
            sides = (row.chosen, row.rejected) if row.label > 0.5 else (row.rejected, row.chosen)
            return sides, sides[::-1] if sides[0] != sides[1] else None
        case PromptRow():
            return "prompt", None
