"""Utilities of responses and competence of labelers from their comparisons: Bradley-Terry with labelers who err.

Chen et al. 2013, "Pairwise ranking aggregation in a crowdsourced setting" (Crowd-BT): labeler k sees the pair the
right way round with probability eta_k,

    P(k prefers i to j) = eta_k sigmoid(u_i - u_j) + (1 - eta_k) sigmoid(u_j - u_i).

A labeler who has the scale upside down gets an eta below one half, and their judgments speak for the opposite. A tie is
half a preference each way. Maximum a posteriori: utilities are normal, eta is Beta distributed (shrinkage).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from plaudit.feedback.quality.numerics import minimise, sigmoid
from plaudit.feedback.quality.outcomes import Floats, Ints, Outcomes
from plaudit.feedback.quality.records import Judgment

UTILITY_SPREAD = 2.0
"""Standard deviation of the prior of utilities, in logits."""
COMPETENCE_PRIOR = (8.0, 2.0)
"""Beta prior: ten imagined pairs, eight of them the right way. It also settles which of the two mirror images of the
model is meant, all labelers right or all wrong."""


class Competence(NamedTuple):
    eta: Floats
    """(L,): probability of seeing a pair the right way round."""
    utilities: Floats
    """(R,): of all responses, numbered as by `number_responses`."""
    probability: Floats
    """(n,): that the first response of each judged pair is better."""
    converged: bool


def number_responses(judgments: Sequence[Judgment], table: Outcomes) -> tuple[Ints, Ints, int]:
    """For each row of the table the numbers of its two responses, and how many there are. Equal texts are one."""
    numbers: dict[tuple[object, str | None, str], int] = {}
    starts: list[list[int]] = [
        [numbers.setdefault((judgment.prompt, judgment.criterion, text), len(numbers)) for text in judgment.responses]
        for judgment in judgments
    ]
    widest = max((len(row) for row in starts), default=0)
    padded = np.array([row + [0] * (widest - len(row)) for row in starts], dtype=np.int64).reshape(-1, widest)
    return padded[table.judgment, table.first], padded[table.judgment, table.second], len(numbers)


def crowd_bradley_terry(judgments: Sequence[Judgment], table: Outcomes, *, iterations: int = 200) -> Competence:
    """The model fitted by L-BFGS, from equal utilities and competence 0.8."""
    first, second, responses = number_responses(judgments, table)
    labelers = len(table.labelers)
    wins = (table.outcome + 1) / 2
    a, b = COMPETENCE_PRIOR

    def loss(point: Floats) -> tuple[float, Floats]:
        utility, logit = point[:responses], point[responses:]
        eta = sigmoid(logit)
        right = sigmoid(utility[first] - utility[second])
        prefers = np.clip(eta[table.labeler] * right + (1 - eta[table.labeler]) * (1 - right), 1e-12, 1 - 1e-12)
        likelihood = (wins * np.log(prefers) + (1 - wins) * np.log(1 - prefers)).sum()
        prior = -(utility**2).sum() / (2 * UTILITY_SPREAD**2)
        prior += ((a - 1) * np.log(np.maximum(eta, 1e-12)) + (b - 1) * np.log(np.maximum(1 - eta, 1e-12))).sum()
        slope = wins / prefers - (1 - wins) / (1 - prefers)
        by_difference = slope * (2 * eta[table.labeler] - 1) * right * (1 - right)
        by_utility = np.bincount(first, by_difference, responses) - np.bincount(second, by_difference, responses)
        by_eta = np.bincount(table.labeler, slope * (2 * right - 1), labelers) * eta * (1 - eta)
        by_logit = by_eta + (a - 1) * (1 - eta) - (b - 1) * eta
        return -(likelihood + prior), -np.concatenate([by_utility - utility / UTILITY_SPREAD**2, by_logit])

    start = np.concatenate([np.zeros(responses), np.full(labelers, np.log(4.0))])
    found = minimise(loss, start, iterations=iterations)
    utilities, eta = found.point[:responses], sigmoid(found.point[responses:])
    return Competence(eta, utilities, sigmoid(utilities[first] - utilities[second]), found.converged)
