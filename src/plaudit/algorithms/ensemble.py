"""One score from an ensemble of reward models (Coste et al. 2023, arXiv 2310.02743, section 3). N members, B responses.

The variance is the population variance everywhere: with few members the sample variance is much larger, so a
coefficient tuned with one is wrong with the other.
"""

from torch import Tensor


def mean(scores: Tensor) -> Tensor:
    """Mean over members. Shapes: (N, B) -> (B,)."""
    return scores.mean(dim=0)


def worst_case(scores: Tensor) -> Tensor:
    """The most pessimistic member. Shapes: (N, B) -> (B,)."""
    return scores.amin(dim=0)


def uncertainty_weighted(scores: Tensor, *, coefficient: float) -> Tensor:
    """Mean minus coefficient times the variance over members; 0 gives the mean. Shapes: (N, B) -> (B,)."""
    return mean(scores) - coefficient * scores.var(dim=0, correction=0)


def spread(scores: Tensor) -> Tensor:
    """Standard deviation over members, in score units. Shapes: (N, B) -> (B,)."""
    return scores.std(dim=0, correction=0)
