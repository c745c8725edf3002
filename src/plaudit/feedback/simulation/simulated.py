"""A panel of simulated labelers: one true preference, seen through noise, carelessness and each labeler's own taste.

They make a whole loop runnable, testable and measurable without people, and they are not people: a model trained on
their rankings has learnt `plaudit.feedback.simulation.true_preference`, nothing else.

A labeler perceives the utility of an answer as

    discrimination * true_preference + taste + Gumbel noise

and sorts by it, which without ties is a draw from the Plackett-Luce model (Luce 1959; Plackett 1975). Answers whose
perceived utilities lie within `tie_width` of the best of their group get the same rank.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plaudit.core.errors import ConfigError
from plaudit.core.records import Prompt, Ranking, Source, prompt_key
from plaudit.core.seeding import derive
from plaudit.feedback.simulation.true_preference import true_preference

_SOURCE = Source("simulated panel", 0)
CRITERION = "overall"


@dataclass(frozen=True, slots=True)
class Labeler:
    """One simulated labeler. Utilities are in units of the Gumbel noise, whose standard deviation is 1.28.

    discrimination: weight of the true preference; 0 is a labeler who does not read the answers.
    per_ten_words:  utility of ten more words, the taste of one who likes long answers.
    first_shown:    utility of being the first answer shown; answers are shown in the order given.
    formal:         utility of each tenth of the words that has eight letters or more.
    careless:       probability of ranking an item at random, by clicking through.
    tie_width:      answers perceived closer together than this are called equal.
    preference:     the true preference; tests give one whose relation to length they know.
    """

    name: str
    discrimination: float = 1.2
    per_ten_words: float = 0.0
    first_shown: float = 0.0
    formal: float = 0.0
    careless: float = 0.0
    tie_width: float = 0.3
    preference: Callable[[Prompt, str], float] = true_preference

    def __post_init__(self) -> None:
        if not 0.0 <= self.careless <= 1.0:
            raise ConfigError(f"Labeler {self.name}: careless={self.careless} is no probability; give 0 to 1.")
        if self.tie_width < 0.0:
            raise ConfigError(f"Labeler {self.name}: tie_width={self.tie_width}; give 0 (never equal) or more.")

    def rank(self, prompt: Prompt, responses: Sequence[str], seed: int) -> tuple[int, ...]:
        """Ranks of `responses`, 1 is best, equal numbers are ties. The same seed and texts give the same ranks."""
        generator = random.Random(derive(seed, self.name, prompt_key(prompt), *responses))
        if generator.random() < self.careless:
            perceived = [_gumbel(generator) for _ in responses]
        else:
            perceived = [
                self.discrimination * self.preference(prompt, response)
                + self._taste(response, place)
                + _gumbel(generator)
                for place, response in enumerate(responses)
            ]
        return ranks_from_utilities(perceived, tie_width=self.tie_width)

    def _taste(self, response: str, place: int) -> float:
        words = response.split()
        long_words = sum(len(word.strip(".,;:!?\"'")) >= 8 for word in words)
        return (
            self.per_ten_words * len(words) / 10.0
            + (self.first_shown if place == 0 else 0.0)
            + self.formal * 10.0 * long_words / max(1, len(words))
        )


@dataclass(frozen=True, slots=True)
class Panel:
    """Labelers who all rank the same items, each independently of the others."""

    labelers: tuple[Labeler, ...]

    def __post_init__(self) -> None:
        names = [labeler.name for labeler in self.labelers]
        if len(set(names)) != len(names):
            raise ConfigError(f"Two labelers of the panel share a name: {', '.join(names)}. Give each its own.")

    def rank(self, prompt: Prompt, responses: Sequence[str], seed: int) -> list[Ranking]:
        """One `Ranking` a labeler, of all `responses` in the order given."""
        return [
            Ranking(
                prompt=prompt,
                responses=tuple(responses),
                ranks=labeler.rank(prompt, responses, seed),
                labeler=labeler.name,
                criterion=CRITERION,
                source=_SOURCE,
            )
            for labeler in self.labelers
        ]

    def only(self, *names: str) -> "Panel":
        """The panel of the labelers called `names`. An unknown name is a `ConfigError`."""
        known = {labeler.name: labeler for labeler in self.labelers}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ConfigError(f"No labeler called {', '.join(unknown)}; the panel has {', '.join(known)}.")
        return Panel(tuple(known[name] for name in names))


def ranks_from_utilities(utilities: Sequence[float], *, tie_width: float) -> tuple[int, ...]:
    """Competition ranks (1, 1, 3 …) by falling utility. An answer within `tie_width` of the best of a group joins it.

    Closeness is to the group's best and not to the neighbour: a chain of near neighbours would else tie its two ends.
    """
    order = sorted(range(len(utilities)), key=lambda index: -utilities[index])
    ranks = [0] * len(utilities)
    best, rank = math.inf, 0
    for position, index in enumerate(order, start=1):
        if best - utilities[index] > tie_width or rank == 0:
            best, rank = utilities[index], position
        ranks[index] = rank
    return tuple(ranks)


def default_panel() -> Panel:
    """Six labelers with different tastes and care: none of them is right, and together they nearly are."""
    return Panel(
        (
            Labeler("simulated-1", discrimination=2.0, tie_width=0.2),  # careful
            Labeler("simulated-2", per_ten_words=0.8),  # likes long answers
            Labeler("simulated-3", first_shown=1.0),  # likes the first answer shown
            Labeler("simulated-4", formal=0.8),  # likes formal words
            Labeler("simulated-5", discrimination=0.8, careless=0.3, tie_width=0.8),  # fast and careless
            Labeler("simulated-6", discrimination=0.9, tie_width=0.6),  # unsure, calls many answers equal
        )
    )


def _gumbel(generator: random.Random) -> float:
    # 1 - random() is in (0, 1]; the tiny shift keeps log(1) = 0 out of the outer logarithm.
    return -math.log(-math.log(1.0 - generator.random()) + 1e-300)
