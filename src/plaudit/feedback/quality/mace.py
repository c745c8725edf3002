"""How often each labeler knows the answer, and what they say when they do not: MACE (Hovy et al. 2013).

On each unit a labeler either knows the true value and says it, or guesses from a distribution of their own. The
variational fit with Beta and Dirichlet priors of the paper, section 2.3.
"""

from typing import NamedTuple

import numpy as np

from plaudit.feedback.quality.numerics import digamma
from plaudit.feedback.quality.outcomes import Floats
from plaudit.feedback.quality.votes import Votes, softmax

KNOWING_PRIOR = 0.5
"""Both parameters of the Beta prior of knowing, as in the paper."""
GUESS_PRIOR = 10.0
"""Each parameter of the Dirichlet prior of guesses, as in the paper."""


class Mace(NamedTuple):
    posterior: Floats
    """(U, V): probability of each true value."""
    competence: Floats
    """(L,): posterior mean of the share of units on which the labeler knows."""
    guesses: Floats
    """(L, V): what the labeler says otherwise."""
    converged: bool


def mace(votes: Votes, *, iterations: int = 200, tolerance: float = 1e-3) -> Mace:
    """The model fitted from knowing half the time and guessing evenly.

    tolerance: ends when no labeler's competence moves by more.
    """
    knowing = np.full((votes.labelers, 2), 0.5)  # weights of guessing and of knowing; they need not sum to 1
    guesses = np.full((votes.labelers, votes.values), 1 / votes.values)
    competence, converged = knowing[:, 1], False
    for _ in range(iterations):
        _, guessed, known = _expect(votes, knowing, guesses)
        if votes.symmetric:
            guessed = (guessed + guessed[:, ::-1]) / 2
        counts = np.stack([guessed.sum(axis=1), known], axis=1)
        knowing = _geometric(counts, KNOWING_PRIOR)
        guesses = _geometric(guessed, GUESS_PRIOR)
        last, competence = competence, (known + KNOWING_PRIOR) / (counts.sum(axis=1) + 2 * KNOWING_PRIOR)
        converged = bool(np.abs(competence - last).max(initial=0.0) < tolerance)
        if converged:
            break
    posterior, _, _ = _expect(votes, knowing, guesses)
    return Mace(posterior, competence, guesses / guesses.sum(axis=1, keepdims=True), converged)


def _expect(votes: Votes, knowing: Floats, guesses: Floats) -> tuple[Floats, Floats, Floats]:
    """Posterior (U, V), expected guesses of each value (L, V), expected number of known units (L,)."""
    guess = knowing[votes.labeler, 0] * guesses[votes.labeler, votes.value]
    know = knowing[votes.labeler, 1]
    # A vote is likelier by (guess + know) / guess if its value is the true one, and says nothing among the others.
    said = votes.unit * votes.values + votes.value
    scores = np.bincount(said, np.log1p(know / guess), minlength=votes.units * votes.values)
    posterior = softmax(scores.astype(np.float64).reshape(votes.units, votes.values))
    knew = posterior[votes.unit, votes.value] * know / (guess + know)
    known = np.bincount(votes.labeler, knew, minlength=votes.labelers)
    return posterior, votes.sum_by_labeler(1 - knew), known.astype(np.float64)


def _geometric(counts: Floats, prior: float) -> Floats:
    """exp of the expected log of Dirichlet probabilities: what variational Bayes puts in place of their mean."""
    return np.exp(digamma(counts + prior) - digamma((counts + prior).sum(axis=1, keepdims=True)))
