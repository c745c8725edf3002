"""Rankings taken apart into pairs of responses, as arrays: what all figures of agreement and bias are computed from.

The outcome of a pair is +1 where its first response is better, -1 where its second is, 0 for a tie. Which response
comes first follows from the texts alone (`records.canonical_order`), so everybody's outcomes of a pair compare. It
carries no meaning, though, and no figure may depend on it: whatever looks at how often +1 occurs must be told each
pair from both sides. If the better response always stood first, labelers who agree on 82 % of pairs would
get Krippendorff's alpha 0.01, because chance seems to explain it.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from plaudit.core.records import Prompt
from plaudit.feedback.quality.records import Judgment

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """n judged pairs of U units. A unit is one pair of responses of one item under one criterion.

    judgment, first, second: which judgment a row comes from, and the places of the pair in its responses.
    unit, labeler:           numbers below `units` and `len(labelers)`.
    prompt:                  number of the row's prompt, below `prompts`: the cluster of all intervals.
    outcome:                 -1, 0, 1.
    """

    labelers: tuple[str, ...]
    units: int
    prompts: int
    judgment: Ints
    first: Ints
    second: Ints
    unit: Ints
    labeler: Ints
    prompt: Ints
    outcome: Ints

    def __len__(self) -> int:
        return len(self.outcome)

    def only(self, rows: NDArray[np.bool_] | Ints) -> Self:
        """The chosen rows. Units, prompts and labelers keep their numbers."""
        return replace(
            self,
            judgment=self.judgment[rows],
            first=self.first[rows],
            second=self.second[rows],
            unit=self.unit[rows],
            labeler=self.labeler[rows],
            prompt=self.prompt[rows],
            outcome=self.outcome[rows],
        )

    def unit_counts(self) -> NDArray[np.float64]:
        """(U, 3): how many labelers said -1, 0 and 1 of each unit."""
        flat = np.bincount(self.unit * 3 + self.outcome + 1, minlength=3 * self.units)
        return flat.reshape(self.units, 3).astype(np.float64)

    def unit_prompts(self) -> Ints:
        """(U,): the prompt of each unit; 0 for a unit without rows."""
        prompts = np.zeros(self.units, dtype=np.int64)
        prompts[self.unit] = self.prompt
        return prompts


def outcomes(judgments: Sequence[Judgment]) -> Outcomes:
    """Every pair of different texts in the judgments. Two identical texts say nothing about anybody's preference.

    Repeats count like any other row; leave them out with `first_judgments` where one labeler must count once.
    """
    labelers = tuple(sorted({judgment.labeler for judgment in judgments}))
    labeler_number = {name: number for number, name in enumerate(labelers)}
    prompt_number: dict[Prompt, int] = {}
    first_unit: dict[tuple[str, str | None], int] = {}  # of an item under a criterion
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    starts, prompts = np.empty((2, len(judgments)), dtype=np.int64)
    units = 0
    for index, judgment in enumerate(judgments):
        size = len(judgment.responses)
        prompts[index] = prompt_number.setdefault(judgment.prompt, len(prompt_number))
        key = (judgment.item, judgment.criterion)
        if key not in first_unit:
            first_unit[key] = units
            units += size * (size - 1) // 2
        starts[index] = first_unit[key]
        by_size[size].append(index)
    who = np.array([labeler_number[judgment.labeler] for judgment in judgments], dtype=np.int64)

    parts = [
        _pairs([judgments[i] for i in indices], np.array(indices), size) for size, indices in sorted(by_size.items())
    ]
    if not parts:
        nothing = np.zeros(0, dtype=np.int64)
        return Outcomes((), 0, 0, nothing, nothing, nothing, nothing, nothing, nothing, nothing)
    judgment, offset, first, second, outcome = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Outcomes(
        labelers=labelers,
        units=units,
        prompts=len(prompt_number),
        judgment=judgment,
        first=first,
        second=second,
        unit=starts[judgment] + offset,
        labeler=who[judgment],
        prompt=prompts[judgment],
        outcome=outcome,
    )


def first_judgments(judgments: Sequence[Judgment]) -> list[Judgment]:
    """Each labeler's first judgment of each item and criterion, in the given order."""
    seen: set[tuple[str, str, str | None]] = set()
    kept: list[Judgment] = []
    for judgment in sorted(judgments, key=lambda judgment: judgment.at or 0):
        key = (judgment.labeler, judgment.item, judgment.criterion)
        if key not in seen:
            seen.add(key)
            kept.append(judgment)
    return kept


def _pairs(chosen: Sequence[Judgment], indices: Ints, size: int) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Of judgments with `size` responses: their indices, number of the pair, its two places, and the outcome."""
    ranks = np.array([judgment.ranks for judgment in chosen], dtype=np.int64)
    i, j = np.triu_indices(size, 1)
    outcome = np.sign(ranks[:, j] - ranks[:, i])
    places = list(zip(i.tolist(), j.tolist(), strict=True))
    different = np.array([[judgment.responses[a] != judgment.responses[b] for a, b in places] for judgment in chosen])
    row, pair = np.nonzero(different)
    return indices[row], pair, i[pair].astype(np.int64), j[pair].astype(np.int64), outcome[row, pair]
