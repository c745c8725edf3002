"""Judged pairs of responses: the common form of rankings, comparisons and the votes of several labelers.

A batch of S scored responses and any number of judgments about them become P pairs of indices into the scores. Every
pairwise loss in `rewards` and `dpo` takes this form, and reduces with `weighted_mean`. Noise models are changes of the
label, made before the loss.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from plaudit.algorithms.masked import positive


class Pairs(NamedTuple):
    """P judgments; all tensors (P,)."""

    first: Tensor
    """Index of a response in the scores (S,)."""
    second: Tensor
    label: Tensor
    """Probability that `first` is better: 1 preferred, 1/2 tie, k/n for k of n votes. Outside 0..1 after `debias`."""
    margin: Tensor
    """By how much the score of `first` should lead, in score units; 0 for none."""
    weight: Tensor


def strict_pairs(first: Tensor, second: Tensor, *, dtype: torch.dtype = torch.float32) -> Pairs:
    """`first` preferred, no margin, weight 1. Shapes: (P,), (P,) integer -> P pairs."""
    ones = torch.ones(first.shape, dtype=dtype, device=first.device)
    return Pairs(first, second, ones, torch.zeros_like(ones), ones)


def ranking_pairs(
    index: Tensor, ranks: Tensor, mask: Tensor, *, weight: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> Pairs:
    """All pairs of each ranking, better first, each with weight / C(K, 2). Shapes: (G, K) three times, (G,) -> P pairs.

    `index` says where a response stands in the scores (S,), so several labelers' rankings can share responses; rank 1
    is the best, equal ranks are a tie (label 1/2); `mask` is False on padding, so rankings of different K share a
    batch. All pairs of a ranking belong into one batch element: shuffled as independent examples, each response gets
    K - 1 updates an epoch and the model overfits. InstructGPT (arXiv 2203.02155), section 3.5 and equation 1.

    Raises:
        ValueError: a ranking has fewer than two responses.
    """
    sizes = mask.sum(dim=1)
    if bool((sizes < 2).any()):
        row = int(sizes.argmin())
        raise ValueError(f"ranking {row} has {int(sizes[row])} responses; it takes two to compare")
    K = mask.shape[1]
    row, column = torch.triu_indices(K, K, offset=1, device=mask.device)
    kept = mask[:, row] & mask[:, column]
    gap = ranks[:, column] - ranks[:, row]
    better = torch.where(gap < 0, column, row)
    worse = torch.where(gap < 0, row, column)
    share = 2.0 / (sizes * (sizes - 1)).to(dtype)
    if weight is not None:
        share = share * weight.to(dtype)
    label = torch.where(gap == 0, 0.5, 1.0).to(dtype)
    return Pairs(
        first=index.gather(1, better)[kept],
        second=index.gather(1, worse)[kept],
        label=label[kept],
        margin=torch.zeros_like(label[kept]),
        weight=share.unsqueeze(1).expand_as(label)[kept],
    )


def concatenate(parts: Sequence[Pairs]) -> Pairs:
    """The pairs of several judgments of the same scores (S,), one after the other."""
    return Pairs(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def swap(pairs: Pairs) -> Pairs:
    """The same judgments with the sides exchanged. Every loss in this package is unchanged by it."""
    return Pairs(pairs.second, pairs.first, 1 - pairs.label, -pairs.margin, pairs.weight)


def drop_ties(pairs: Pairs) -> Pairs:
    """Without the pairs labelled exactly 1/2; weights stay. What InstructGPT does."""
    kept = pairs.label != 0.5
    return Pairs(*(column[kept] for column in pairs))


def normalise_weights(pairs: Pairs, group: Tensor, *, groups: int) -> Pairs:
    """Weights scaled to sum to 1 in each group, so that a prompt judged often counts once. Shapes: group (P,).

    `group` holds the number 0 .. groups - 1 of the prompt (or ranking) each pair belongs to.

    Raises:
        ValueError: the weights of a group that has pairs sum to zero.
    """
    total = torch.zeros(groups, dtype=pairs.weight.dtype, device=pairs.weight.device).index_add(0, group, pairs.weight)
    share = total[group]
    if bool((share <= 0).any()):
        raise ValueError("the pairs of a group have total weight 0; drop the group or give a pair weight")
    return pairs._replace(weight=pairs.weight / share)


def smooth(pairs: Pairs, *, rate: float | Tensor) -> Pairs:
    """Labels moved towards their opposite: q -> (1 - rate) q + rate (1 - q). `rate` is one number or (P,).

    For judgments flipped with this probability. The best margin is then bounded: ln((1 - rate) / rate) for strict ones.
    """
    return pairs._replace(label=(1 - rate) * pairs.label + rate * (1 - pairs.label))


def debias(pairs: Pairs, *, rate: float | Tensor) -> Pairs:
    """Labels q -> (q - rate) / (1 - 2 rate): the expected loss under flips equals the loss on clean labels.

    Every loss here is linear in q, so this is [(1 - rate) l(q) - rate l(1 - q)] / (1 - 2 rate); it can be negative and
    has no lower bound. `rate` is one number or (P,). Natarajan et al. 2013, lemma 1; robust DPO (arXiv 2403.00409).

    Raises:
        ValueError: a rate is 1/2 or more (such labels carry no information) or negative.
    """
    largest, smallest = float(torch.as_tensor(rate).max()), float(torch.as_tensor(rate).min())
    if largest >= 0.5 or smallest < 0:
        raise ValueError(f"flip rates span {smallest} to {largest}; they must lie in 0 <= rate < 0.5")
    return pairs._replace(label=(pairs.label - rate) / (1 - 2 * rate))


def margins(scores: Tensor, pairs: Pairs) -> Tensor:
    """Delta: the lead of `first` over `second`. Shapes: (S,) -> (P,)."""
    return scores[pairs.first] - scores[pairs.second]


def weighted_mean(losses: Tensor, pairs: Pairs, *, denominator: float | Tensor) -> Tensor:
    """Weighted sum of pair losses over `denominator`, the total weight of the whole batch. Shapes: (P,) -> ()."""
    return (pairs.weight * losses).sum() / positive(denominator, "denominator")


class Accuracy(NamedTuple):
    """Two () sums, so that batches add up; their quotient is the accuracy."""

    correct: Tensor
    weight: Tensor


def accuracy(scores: Tensor, pairs: Pairs) -> Accuracy:
    """How often the higher score is the preferred response. Shapes: (S,) -> ().

    Equal scores count 1/2. Judgments of exactly 1/2 have no right answer and are left out; other soft labels count for
    the side they favour.
    """
    return _accuracy(scores, pairs, tie=0.5)


def strict_accuracy(scores: Tensor, pairs: Pairs) -> Accuracy:
    """`accuracy` with equal scores counted as wrong, as DPO reports it: 0 at the first step. Shapes: (S,) -> ()."""
    return _accuracy(scores, pairs, tie=0.0)


def _accuracy(scores: Tensor, pairs: Pairs, *, tie: float) -> Accuracy:
    delta = margins(scores, pairs).detach()
    agreement = delta * (pairs.label - 0.5)
    correct = torch.where(delta == 0, tie, (agreement > 0).to(delta.dtype))
    weight = torch.where(pairs.label == 0.5, torch.zeros_like(pairs.weight), pairs.weight)
    return Accuracy((weight * correct).sum(), weight.sum())
