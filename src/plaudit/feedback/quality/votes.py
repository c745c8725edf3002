"""Votes of labelers for one of V values of a unit: what the models of labelers' reliability read."""

from dataclasses import dataclass

import numpy as np

from plaudit.feedback.quality.outcomes import Floats, Ints, Outcomes


@dataclass(frozen=True, slots=True)
class Votes:
    """n votes. All arrays (n,): `unit` below `units`, `labeler` below `labelers`, `value` below `values`.

    symmetric: whether value v of a unit is value V - 1 - v of the same unit told from the other side, as with outcomes
               of pairs. Models then treat both alike, so that nothing depends on which response is called the first.
    """

    unit: Ints
    labeler: Ints
    value: Ints
    units: int
    labelers: int
    values: int
    symmetric: bool

    def shares(self) -> Floats:
        """(U, V): the share of each value among the votes of a unit; equal shares where nobody voted."""
        counts = np.bincount(self.unit * self.values + self.value, minlength=self.units * self.values)
        counts = counts.reshape(self.units, self.values).astype(np.float64)
        total = counts.sum(axis=1, keepdims=True)
        return np.where(total > 0, counts / np.maximum(total, 1), 1 / self.values)

    def sum_by_labeler(self, of_votes: Floats) -> Floats:
        """(L, V, …): `of_votes` (n, …) summed by labeler and value said."""
        index = self.labeler * self.values + self.value
        columns = of_votes.reshape(len(index), -1)
        summed = [np.bincount(index, column, minlength=self.labelers * self.values) for column in columns.T]
        return np.stack(summed, axis=1).reshape(self.labelers, self.values, *of_votes.shape[1:]).astype(np.float64)

    def sum_by_unit(self, of_votes: Floats) -> Floats:
        """(U, C): `of_votes` (n, C) summed by unit."""
        summed = [np.bincount(self.unit, column, minlength=self.units) for column in of_votes.T]
        return np.stack(summed, axis=1).astype(np.float64)


def pair_votes(table: Outcomes) -> Votes:
    """Outcomes -1, 0, 1 as values 0 (second better), 1 (tie), 2 (first better)."""
    return Votes(
        unit=table.unit,
        labeler=table.labeler,
        value=table.outcome + 1,
        units=table.units,
        labelers=len(table.labelers),
        values=3,
        symmetric=True,
    )


def softmax(scores: Floats) -> Floats:
    """Rows of log probabilities, up to a constant each, as probabilities."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
