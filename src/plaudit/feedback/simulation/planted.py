"""Simulated labelers with one known fault each: what quality control and the bias audit are tested and shown on."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from plaudit.core.records import Prompt, prompt_key
from plaudit.core.seeding import derive
from plaudit.feedback.quality.records import Judgment, canonical_order, item_key
from plaudit.feedback.simulation.simulated import CRITERION, Labeler


@dataclass(frozen=True, slots=True)
class Planted:
    """A simulated labeler, what is wrong with them, and how fast they read."""

    labeler: Labeler
    fault: str
    words_a_second: float = 3.0

    @property
    def name(self) -> str:
        return self.labeler.name

    def judge(self, prompt: Prompt, responses: Sequence[str], seed: int, *, at: int | None = None) -> Judgment:
        """This labeler's judgment of an item, shown in an order of their own. The same seed gives the same judgment."""
        generator = random.Random(derive(seed, "shown", self.name, prompt_key(prompt), *sorted(responses)))
        shown = generator.sample(list(responses), len(responses))
        ranks = self.labeler.rank(prompt, shown, seed)
        order = canonical_order(shown)
        words = sum(len(response.split()) for response in shown)
        return Judgment(
            item=item_key(prompt, responses),
            prompt=prompt,
            responses=tuple(shown[place] for place in order),
            ranks=tuple(ranks[place] for place in order),
            labeler=self.name,
            kind="simulated",
            order=tuple(order),
            seconds=words / self.words_a_second * generator.uniform(0.6, 1.6),
            at=at,
            criterion=CRITERION,
        )


def planted_labelers(*, preference: Callable[[Prompt, str], float] | None = None) -> tuple[Planted, ...]:
    """Three careful labelers and one of each fault. `preference` replaces the true one that they see through noise."""
    labelers = (
        Planted(Labeler("careful-1", discrimination=2.0), "none"),
        Planted(Labeler("careful-2", discrimination=1.8), "none"),
        Planted(Labeler("careful-3", discrimination=1.6, tie_width=0.6), "none"),
        Planted(Labeler("random", discrimination=0.0), "ranks without reading", words_a_second=25.0),
        Planted(Labeler("lazy", tie_width=1e9), "calls everything equal", words_a_second=40.0),
        Planted(Labeler("inverted", discrimination=-2.0), "has the scale upside down"),
        Planted(Labeler("first", discrimination=1.2, first_shown=12.0), "prefers the response shown first"),
        Planted(Labeler("long", discrimination=1.6, per_ten_words=5.0), "prefers long responses"),
    )
    if preference is None:
        return labelers
    return tuple(replace(one, labeler=replace(one.labeler, preference=preference)) for one in labelers)


def judge_all(
    labelers: Sequence[Planted], items: Sequence[tuple[Prompt, Sequence[str]]], seed: int, *, start: int = 0
) -> list[Judgment]:
    """Everybody's judgments of all items, one a minute from `start` (milliseconds UTC), item by item."""
    return [
        one.judge(prompt, responses, seed, at=start + 60_000 * (number * len(labelers) + place))
        for number, (prompt, responses) in enumerate(items)
        for place, one in enumerate(labelers)
    ]
