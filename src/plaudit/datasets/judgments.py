"""Rankings and comparisons of one prompt, merged so that every distinct text is encoded once.

A text judged by three labelers, or in four comparisons, is one response of one prompt: the judgments keep indices into
the merged texts. The sum of the pair losses is the same as for the separate rows; the model runs over less.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

from plaudit.core.records import Comparison, Prompt, Ranking, prompt_key


class JudgedPair(NamedTuple):
    """Two texts of one prompt and what one labeler said about them, the better text first."""

    first: int  # index into JudgedPrompt.texts
    second: int
    label: float  # probability that `first` is better: 1 preferred, 0.5 tie, anything between for soft labels
    margin: float  # by how much `first` should lead; 0 where the data gives none
    gap: int  # difference of ranks: 0 for a tie, 1 for neighbours and for comparisons


@dataclass(frozen=True, slots=True)
class Judgment:
    """One ranking or one comparison, on the merged texts."""

    items: tuple[int, ...]  # indices into JudgedPrompt.texts, in the order of the row
    ranks: tuple[int, ...]  # 1 = best, equal = tie
    labeler: str | None
    weight: float
    label: float | None = None  # comparisons only: probability that items[0] is better
    margin: float | None = None  # comparisons only

    def pairs(self) -> Iterator[JudgedPair]:
        """Every pair of different texts, the better text first."""
        for a, b in combinations(range(len(self.items)), 2):
            if self.items[a] == self.items[b]:
                continue
            if self.ranks[a] > self.ranks[b]:
                a, b = b, a
            gap = self.ranks[b] - self.ranks[a]
            label = 1.0 if gap else 0.5
            margin = self.margin or 0.0
            if self.label is not None:
                label = max(self.label, 1.0 - self.label)
                margin = margin if self.label >= 0.5 else -margin
            yield JudgedPair(self.items[a], self.items[b], label, margin, gap)


@dataclass(frozen=True, slots=True)
class JudgedPrompt:
    """A prompt, its distinct texts, and everybody's judgments of them."""

    prompt: Prompt
    texts: tuple[str, ...]
    judgments: tuple[Judgment, ...]

    @property
    def key(self) -> str:
        return prompt_key(self.prompt)

    def pairs(self) -> Iterator[tuple[Judgment, JudgedPair]]:
        """The pairs of all judgments, with the judgment each comes from."""
        for judgment in self.judgments:
            for pair in judgment.pairs():
                yield judgment, pair


def merge_judgments(rows: Iterable[Ranking | Comparison]) -> list[JudgedPrompt]:
    """One JudgedPrompt per distinct prompt, in order of first appearance; texts likewise. Texts match exactly."""
    prompts: dict[str, Prompt] = {}
    texts: dict[str, dict[str, int]] = {}
    judgments: dict[str, list[Judgment]] = {}
    for row in rows:
        key = prompt_key(row.prompt)
        prompts.setdefault(key, row.prompt)
        index = texts.setdefault(key, {})
        judged = row.responses if isinstance(row, Ranking) else (row.chosen, row.rejected)
        items = tuple(index.setdefault(text, len(index)) for text in judged)
        judgments.setdefault(key, []).append(_judgment(row, items))
    return [JudgedPrompt(prompts[key], tuple(texts[key]), tuple(judgments[key])) for key in prompts]


def _judgment(row: Ranking | Comparison, items: tuple[int, ...]) -> Judgment:
    if isinstance(row, Ranking):
        return Judgment(items, tuple(row.ranks), row.labeler, row.weight)
    ranks = (1, 1) if row.label == 0.5 else (1, 2) if row.label > 0.5 else (2, 1)
    return Judgment(items, ranks, row.labeler, row.weight, row.label, row.margin)


def keep_texts(judged: JudgedPrompt, kept: Sequence[int]) -> JudgedPrompt:
    """Only the texts `kept`, in this order. Judgments lose the others, and go where fewer than two are left."""
    place = {item: at for at, item in enumerate(kept)}
    judgments: list[Judgment] = []
    for judgment in judged.judgments:
        left = [at for at, item in enumerate(judgment.items) if item in place]
        if len(left) >= 2:
            items = tuple(place[judgment.items[at]] for at in left)
            judgments.append(replace(judgment, items=items, ranks=tuple(judgment.ranks[at] for at in left)))
    return JudgedPrompt(judged.prompt, tuple(judged.texts[item] for item in kept), tuple(judgments))


def split_judgments(judged: JudgedPrompt, sizes: Sequence[int], *, room: int) -> list[JudgedPrompt]:
    """The same judgments in parts whose texts' `sizes` sum to at most `room` (one larger judgment stays whole).

    A prompt judged hundreds of times would not fit in one batch. A text that several parts need is repeated in each.
    """
    if sum(sizes) <= room:
        return [judged]
    parts: list[tuple[list[Judgment], set[int]]] = []
    for judgment in judged.judgments:
        items = set(judgment.items)
        if parts and sum(sizes[item] for item in parts[-1][1] | items) <= room:
            parts[-1][0].append(judgment)
            parts[-1][1].update(items)
        else:
            parts.append(([judgment], items))
    return [keep_texts(replace(judged, judgments=tuple(part)), sorted(items)) for part, items in parts]


@dataclass(frozen=True, slots=True)
class ScoredPrompt:
    """A judged prompt with a model's score of each text."""

    judged: JudgedPrompt
    scores: tuple[float | None, ...]  # one a text; None = unscored, which is never 0 and never a tie
    members: tuple[tuple[float, ...], ...] = ()  # (members, texts) of an ensemble; empty for a single model
