"""Logistic regression of pairs: which differences between two responses go with being preferred.

Without intercept, because a pair told from the other side must say the same. Standard errors are clustered (Liang &
Zeger 1986). A weak normal prior keeps coefficients finite where a feature decides every pair.
"""

from typing import NamedTuple

import numpy as np

from plaudit.feedback.quality.numerics import sigmoid
from plaudit.feedback.quality.outcomes import Floats, Ints

PRIOR_SPREAD = 3.0
"""Standard deviation of the prior of each coefficient, in logits a unit of its column."""


class Fit(NamedTuple):
    coefficients: Floats
    errors: Floats
    """Clustered standard errors."""
    n: int
    clusters: int


def fit(differences: Floats, wins: Floats, cluster: Ints) -> Fit:
    """Coefficients of the columns of `differences` (n, C) for `wins` (n,), 1 where the first response was preferred."""
    columns = differences.shape[1]
    prior = np.eye(columns) / PRIOR_SPREAD**2
    coefficients = np.zeros(columns)
    hessian = prior
    for _ in range(50):
        chance = sigmoid(differences @ coefficients)
        hessian = (differences * (chance * (1 - chance))[:, None]).T @ differences + prior
        step = np.linalg.solve(hessian, differences.T @ (wins - chance) - prior @ coefficients)
        # A Newton step can overshoot where the fit is nearly separable.
        coefficients = coefficients + np.clip(step, -2, 2)
        if float(np.abs(step).max(initial=0.0)) < 1e-8:
            break
    scores = differences * (wins - sigmoid(differences @ coefficients))[:, None]
    _, index = np.unique(cluster, return_inverse=True)
    groups = int(index.max(initial=-1)) + 1
    summed = np.stack([np.bincount(index, column, minlength=groups) for column in scores.T], axis=1)
    bread = np.linalg.inv(hessian)
    middle = summed.T @ summed * (groups / max(1, groups - 1))
    return Fit(coefficients, np.sqrt(np.diag(bread @ middle @ bread)), len(wins), groups)
