"""How far each labeler can be relied on, and what that is worth: soft labels and weights, and whether to use them.

Three models see the same judgments: Dawid-Skene (what is true of a pair, ties included), MACE (who guesses), and
Bradley-Terry with competence (utilities of responses). None of them knows what is right. A group that shares a mistake
looks reliable, so weights are recommended only where they predict judgments they have not seen better than equal
weights do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plaudit.core.seeding import derive
from plaudit.feedback.quality.competence import crowd_bradley_terry
from plaudit.feedback.quality.dawid_skene import dawid_skene
from plaudit.feedback.quality.intervals import Estimate, Wanted, bootstrap, share, sums_by
from plaudit.feedback.quality.mace import mace
from plaudit.feedback.quality.outcomes import Floats, Ints, Outcomes
from plaudit.feedback.quality.records import Judgment
from plaudit.feedback.quality.votes import pair_votes

SHRINKAGE = 10.0
"""Votes by which a labeler's confusion matrix is pulled towards everybody's."""
HELD_OUT = 0.2
LARGEST_WEIGHT = 3.0
"""In units of the mean weight: nobody's judgments become the data set."""


@dataclass(frozen=True, slots=True)
class LabelerReliability:
    """One labeler under the three models; each a posterior summary that shrinks towards the others.

    accuracy:   probability of preferring the better response, given that they prefer one (Dawid-Skene).
    competence: share of pairs on which they know what is true (MACE).
    eta:        probability of seeing a pair the right way round (Bradley-Terry with competence).
    weight:     of their judgments in a data set, mean 1 over judgments.
    """

    labeler: str
    pairs: int
    accuracy: float
    competence: float
    eta: float
    weight: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """The models' results, and whether weights help.

    gain:        held-out strict judgments predicted by the weighted vote of the other labelers, minus those by their
                 equal vote, as a share; a drawn vote is half right.
    recommended: whether the interval of `gain` is above 0.
    """

    labelers: tuple[LabelerReliability, ...]
    gain: Estimate
    recommended: bool
    converged: bool


@dataclass(frozen=True, slots=True)
class SoftLabel:
    """What the labelers' judgments of one pair come to: probabilities that sum to 1, by Dawid-Skene."""

    item: str
    criterion: str | None
    first: str
    second: str
    first_better: float
    tie: float
    second_better: float

    @property
    def label(self) -> float:
        """Probability that the first response is better, a tie being half of it: `core.records.Comparison.label`."""
        return self.first_better + self.tie / 2


def reliability(judgments: Sequence[Judgment], table: Outcomes, *, seed: int = 0) -> Reliability:
    """The models fitted to the judgments (one of each labeler and item) and checked on held-out ones."""
    votes = pair_votes(table)
    skene, spam, terry = dawid_skene(votes, shrinkage=SHRINKAGE), mace(votes), crowd_bradley_terry(judgments, table)
    accuracy = strict_accuracy(skene.confusion, skene.prior)
    pairs = np.bincount(table.labeler, minlength=len(table.labelers))
    weight = weights(accuracy, pairs)
    gain = held_out_gain(table, seed=seed)
    return Reliability(
        labelers=tuple(
            LabelerReliability(
                name,
                int(pairs[number]),
                float(accuracy[number]),
                float(spam.competence[number]),
                float(terry.eta[number]),
                float(weight[number]),
            )
            for number, name in enumerate(table.labelers)
        ),
        gain=gain,
        recommended=gain.low is not None and gain.low > 0,
        converged=skene.converged and spam.converged and terry.converged,
    )


def strict_accuracy(confusion: Floats, prior: Floats) -> Floats:
    """(L,): of a labeler's strict preferences between responses that differ, the share that is right."""
    right = confusion[:, 0, 0] * prior[0] + confusion[:, 2, 2] * prior[2]
    wrong = confusion[:, 0, 2] * prior[0] + confusion[:, 2, 0] * prior[2]
    return right / (right + wrong)


def weights(accuracy: Floats, pairs: Ints) -> Floats:
    """(L,): log odds of being right, the optimal weight of an independent vote (Nitzan & Paroush 1982).

    Nobody weighs less than 0, nor more than `LARGEST_WEIGHT` times the mean; the mean over judged pairs is 1. Equal
    weights where nobody does better than chance.
    """
    odds = np.maximum(0.0, np.log(accuracy / (1 - accuracy)))
    total = pairs.sum()
    for _ in range(20):  # cutting the largest lowers the mean, and the next largest may then be too large
        mean = (odds * pairs).sum() / total if total else 0.0
        if mean <= 0:
            return np.ones(len(accuracy))
        odds = np.minimum(odds / mean, LARGEST_WEIGHT)
    return odds


def soft_labels(judgments: Sequence[Judgment], table: Outcomes) -> list[SoftLabel]:
    """One soft label a judged pair, in the order of the units."""
    posterior = dawid_skene(pair_votes(table), shrinkage=SHRINKAGE).posterior
    found: list[SoftLabel] = []
    units, rows = np.unique(table.unit, return_index=True)
    for unit, row in zip(units.tolist(), rows.tolist(), strict=True):
        judgment = judgments[int(table.judgment[row])]
        second_better, tie, first_better = (float(value) for value in posterior[unit])
        found.append(
            SoftLabel(
                item=judgment.item,
                criterion=judgment.criterion,
                first=judgment.responses[int(table.first[row])],
                second=judgment.responses[int(table.second[row])],
                first_better=first_better,
                tie=tie,
                second_better=second_better,
            )
        )
    return found


def held_out_gain(table: Outcomes, *, seed: int) -> Estimate:
    """How much better weighted votes predict judgments that no weight was fitted to than equal votes do."""
    judgments = int(table.judgment.max(initial=-1)) + 1
    hidden = np.random.default_rng(derive(seed, "held-out judgments")).random(judgments) < HELD_OUT
    held = hidden[table.judgment]
    seen = table.only(~held)
    skene = dawid_skene(pair_votes(seen), shrinkage=SHRINKAGE)
    pairs = np.bincount(seen.labeler, minlength=len(table.labelers))
    weight = weights(strict_accuracy(skene.confusion, skene.prior), pairs)
    voters = np.bincount(seen.unit, np.abs(seen.outcome), minlength=table.units)
    asked = held & (table.outcome != 0) & (voters[table.unit] > 0)
    unit, truth = table.unit[asked], table.outcome[asked]
    weighted = np.bincount(seen.unit, weight[seen.labeler] * seen.outcome, minlength=table.units)[unit]
    equal = np.bincount(seen.unit, seen.outcome, minlength=table.units)[unit]
    difference = _right(weighted.astype(np.float64), truth) - _right(equal.astype(np.float64), truth)
    columns = np.stack([difference, np.ones(len(difference))], axis=1)
    wanted = Wanted(share(0, 1), len(difference), "no held-out pair was judged strictly by another labeler")
    return bootstrap(sums_by(table.prompt[asked], columns), {"gain": wanted}, seed=seed)["gain"]


def _right(vote: Floats, truth: Ints) -> Floats:
    """1, 1/2 for a drawn vote, 0."""
    return (np.sign(np.round(vote, 9)) * truth + 1) / 2
