"""What is probably true of each unit, and how each labeler errs. Dawid & Skene 1979, by expectation maximisation.

Each labeler has a confusion matrix: of the units with true value t, the share on which they say s. A tie is a value
like the others, so a labeler who calls everything equal is described as just that.
"""

from typing import NamedTuple

import numpy as np

from plaudit.feedback.quality.outcomes import Floats
from plaudit.feedback.quality.votes import Votes, softmax

_SMALLEST = 1e-10


class DawidSkene(NamedTuple):
    posterior: Floats
    """(U, V): probability of each true value."""
    prior: Floats
    """(V,): share of each value among units."""
    confusion: Floats
    """(L, V, V): probability that a labeler says the last index when the middle one is true."""
    converged: bool


def dawid_skene(votes: Votes, *, shrinkage: float = 0.0, iterations: int = 100, tolerance: float = 1e-5) -> DawidSkene:
    """The model fitted from the shares of votes.

    shrinkage: votes by which each row of a confusion matrix is pulled towards that of all labelers together. Without
               it, a labeler of five judgments gets zeros for what they never said, and outvotes everybody.
    tolerance: ends when the evidence lower bound a vote rises by less.
    """
    posterior = votes.shares()
    prior, confusion = _maximise(votes, posterior, shrinkage)
    bound, converged = -np.inf, False
    for _ in range(iterations):
        posterior = softmax(np.log(prior) + votes.sum_by_unit(_log_said(votes, confusion)))
        prior, confusion = _maximise(votes, posterior, shrinkage)
        last, bound = bound, _lower_bound(votes, posterior, prior, confusion)
        converged = bool(bound - last < tolerance)
        if converged:
            break
    return DawidSkene(posterior, prior, confusion, converged)


def _maximise(votes: Votes, posterior: Floats, shrinkage: float) -> tuple[Floats, Floats]:
    """Prior (V,) and confusion (L, V, V) for given probabilities of the true values."""
    prior = posterior.mean(axis=0)
    counts = np.swapaxes(votes.sum_by_labeler(posterior[votes.unit]), 1, 2)
    if votes.symmetric:
        prior = (prior + prior[::-1]) / 2
        counts = (counts + counts[:, ::-1, ::-1]) / 2
    if shrinkage:
        counts = counts + shrinkage * _rows(counts.sum(axis=0))
    return np.maximum(prior, _SMALLEST), _rows(counts)


def _rows(counts: Floats) -> Floats:
    """Counts (…, V) as probabilities."""
    kept = np.maximum(counts, _SMALLEST)
    return kept / kept.sum(axis=-1, keepdims=True)


def _log_said(votes: Votes, confusion: Floats) -> Floats:
    """(n, V): log probability of each vote under each true value."""
    return np.log(confusion)[votes.labeler, :, votes.value]


def _lower_bound(votes: Votes, posterior: Floats, prior: Floats, confusion: Floats) -> float:
    """Evidence lower bound, a vote."""
    kept = np.maximum(posterior, _SMALLEST)
    expected = (posterior * (np.log(prior) + votes.sum_by_unit(_log_said(votes, confusion)))).sum()
    return float(expected - (kept * np.log(kept)).sum()) / max(1, len(votes.unit))
