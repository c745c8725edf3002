"""Losses and normalisation of reward models.

Pair losses take scores (S,) and judged `Pairs` and return one loss a pair; reduce them with `pairs.weighted_mean`.
Scores are read from a model as r(x, y); only their differences within a prompt are identified.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from plaudit.algorithms.pairs import Pairs, margins


def bradley_terry(scores: Tensor, pairs: Pairs) -> Tensor:
    """-q log sigma(Delta - m) - (1 - q) log sigma(m - Delta), q the label, m the margin. Shapes: (S,) -> (P,).

    Bradley & Terry 1952; margin as in Llama 2 (arXiv 2307.09288), equation 2.
    """
    lead = margins(scores, pairs) - pairs.margin
    return pairs.label * F.softplus(-lead) + (1 - pairs.label) * F.softplus(lead)


def rao_kupper(scores: Tensor, pairs: Pairs, *, log_excess: Tensor) -> Tensor:
    """Ties as a third outcome: the better response must lead by ln(theta) to be seen as better. Shapes: (S,) -> (P,).

        P(first) = sigma(Delta - ln theta),   P(second) = sigma(-Delta - ln theta),   P(tie) = the rest

    `log_excess` () is ln(theta - 1), a learned scalar; theta = 1 is Bradley-Terry. Rao & Kupper 1967.

    Raises:
        ValueError: a label is not 0, 1/2 or 1, or a margin is not 0.
    """
    _require_outcomes(pairs)
    delta, threshold = margins(scores, pairs), F.softplus(log_excess)  # ln theta = ln(1 + e^log_excess)
    win, lose = F.softplus(threshold - delta), F.softplus(threshold + delta)
    # P(tie) = (theta^2 - 1) P(first) P(second), and theta^2 - 1 = (theta - 1)(theta + 1).
    tie = win + lose - log_excess - F.softplus(threshold)
    return _by_outcome(pairs, win=win, tie=tie, lose=lose)


def davidson(scores: Tensor, pairs: Pairs, *, log_nu: Tensor) -> Tensor:
    """Ties as a third outcome, likeliest between equals. Shapes: (S,) -> (P,).

        P(first) : P(tie) : P(second) = e^(Delta/2) : nu : e^(-Delta/2)

    `log_nu` () is a learned scalar; nu = 0 is Bradley-Terry. Davidson 1970.

    Raises:
        ValueError: a label is not 0, 1/2 or 1, or a margin is not 0.
    """
    _require_outcomes(pairs)
    half = margins(scores, pairs) / 2
    log_odds = torch.stack([half, log_nu.expand_as(half), -half])
    win, tie, lose = (torch.logsumexp(log_odds, dim=0) - log_odds).unbind()
    return _by_outcome(pairs, win=win, tie=tie, lose=lose)


def plackett_luce(scores: Tensor, index: Tensor, ranks: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood of whole rankings. Shapes: (S,), (G, K) three times -> (G,).

    sum over responses of logsumexp(scores not ranked above it) - its score; two responses give Bradley-Terry. Tied
    responses each compete with the whole tied set (Breslow's form, which no order within the tie can change).
    `index`, `ranks` and `mask` are as in `pairs.ranking_pairs`. Plackett 1975.
    """
    score = scores[torch.where(mask, index, 0)]
    competes = (ranks.unsqueeze(1) >= ranks.unsqueeze(2)) & mask.unsqueeze(1)  # (G, chosen, competitor)
    field = score.unsqueeze(1).masked_fill(~competes, float("-inf"))
    return torch.where(mask, torch.logsumexp(field, dim=2) - score, torch.zeros_like(score)).sum(dim=1)


def centring(scores: Tensor, pairs: Pairs) -> Tensor:
    """(r_first + r_second)^2: times about 0.01, holds scores near 0 and leaves Delta alone. Shapes: (S,) -> (P,).

    Eisenstein et al. 2023 (arXiv 2312.09244).
    """
    return (scores[pairs.first] + scores[pairs.second]) ** 2


class Normalisation(NamedTuple):
    """score -> gain * score + bias; () tensors."""

    gain: Tensor
    bias: Tensor


def centre(scores: Tensor) -> Normalisation:
    """Mean 0 on these scores, of demonstrations (InstructGPT) or of the initial policy. Shapes: (B,) -> ()."""
    return Normalisation(torch.ones_like(scores.mean()), -scores.mean())


def standardise(scores: Tensor) -> Normalisation:
    """Mean 0 and (population) standard deviation 1 on these scores. Shapes: (B,) -> ().

    Ziegler et al. 2019 (arXiv 1909.08593), on samples of the initial policy.

    Raises:
        ValueError: all scores are equal.
    """
    std = scores.std(correction=0)
    if float(std) == 0:
        raise ValueError(f"all {scores.numel()} scores equal {float(scores.mean())}: there is no scale to set to 1")
    return Normalisation(1 / std, -scores.mean() / std)


def _by_outcome(pairs: Pairs, *, win: Tensor, tie: Tensor, lose: Tensor) -> Tensor:
    return torch.where(pairs.label == 0.5, tie, torch.where(pairs.label == 1, win, lose))


def _require_outcomes(pairs: Pairs) -> None:
    """A tie model needs outcomes: a label of 2/3 could be two votes of three or a likely win, and they differ."""
    known = (pairs.label == 0) | (pairs.label == 0.5) | (pairs.label == 1)
    if not bool(known.all()):
        raise ValueError(
            f"label {float(pairs.label[~known][0])} is not an outcome; tie models need 0, 0.5 or 1: "
            "give each vote as its own pair, or use bradley_terry"
        )
    if bool((pairs.margin != 0).any()):
        raise ValueError("tie models have no margin; set margins to 0, or use bradley_terry")
