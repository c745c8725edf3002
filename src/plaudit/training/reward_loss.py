"""From judgments to one number a batch: the reward model's likelihoods over scores of merged texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from plaudit.algorithms import pairs as judged
from plaudit.algorithms import rewards
from plaudit.core.errors import ConfigError
from plaudit.datasets.judgments import JudgedPrompt, Judgment
from plaudit.training.reward_config import RewardConfig


class Rankings(NamedTuple):
    """G rankings of up to K responses; tensors (G, K) and (G,). `items` points into the scores (S,) of a batch."""

    items: Tensor
    ranks: Tensor
    mask: Tensor
    weight: Tensor


class Target(NamedTuple):
    """What the scores (S,) of a batch are trained towards."""

    pairs: judged.Pairs
    rankings: Rankings  # of every judgment, for Plackett-Luce


def targets(prompts: Sequence[JudgedPrompt], *, drop_ties: bool) -> Target:
    """The judgments of prompts whose scores lie one prompt after the other. A ranking of K gives C(K, 2) pairs."""
    rankings: list[tuple[int, Judgment]] = []
    comparisons: list[tuple[int, Judgment]] = []
    start = 0
    for one in prompts:
        for judgment in one.judgments:
            (rankings if judgment.label is None else comparisons).append((start, judgment))
        start += len(one.texts)
    ranked = _rankings(rankings)
    parts = [_comparison_pairs(comparisons)]
    if rankings:
        parts.append(judged.ranking_pairs(ranked.items, ranked.ranks, ranked.mask, weight=ranked.weight))
    pairs = judged.concatenate(parts)
    # A text judged against a copy of itself says nothing, whatever the labeler said.
    pairs = judged.Pairs(*(column[pairs.first != pairs.second] for column in pairs))
    return Target(judged.drop_ties(pairs) if drop_ties else pairs, _rankings([*rankings, *comparisons]))


def _rankings(judgments: Sequence[tuple[int, Judgment]]) -> Rankings:
    longest = max((len(judgment.items) for _, judgment in judgments), default=0)
    index = torch.zeros(len(judgments), longest, dtype=torch.long)
    ranks = torch.zeros(len(judgments), longest, dtype=torch.long)
    mask = torch.zeros(len(judgments), longest, dtype=torch.bool)
    for row, (start, judgment) in enumerate(judgments):
        K = len(judgment.items)
        index[row, :K] = start + torch.tensor(judgment.items)
        ranks[row, :K] = torch.tensor(judgment.ranks)
        mask[row, :K] = True
    return Rankings(
        index, ranks, mask, torch.tensor([judgment.weight for _, judgment in judgments], dtype=torch.float32)
    )


def _comparison_pairs(comparisons: Sequence[tuple[int, Judgment]]) -> judged.Pairs:
    items = torch.tensor([[start + i for i in j.items] for start, j in comparisons], dtype=torch.long).view(-1, 2)
    numbers = [[j.label or 0.0, j.margin or 0.0, j.weight] for _, j in comparisons]
    label, margin, weight = torch.tensor(numbers, dtype=torch.float32).view(-1, 3).unbind(dim=1)
    return judged.Pairs(items[:, 0], items[:, 1], label, margin, weight)


class Likelihood(NamedTuple):
    """A loss over scores, and the parameter it learns itself (the share of ties), if any."""

    total: Callable[[Tensor, Target], Tensor]  # scores (S,) -> (), the weighted sum
    weight: Callable[[Target], float]  # what the sums of a batch are divided by
    parameters: dict[str, Parameter]


def likelihood(config: RewardConfig, *, tie_share: float) -> Likelihood:
    """The loss the settings ask for. `tie_share` of the training pairs are ties: where the tie models start."""
    if config.loss == "plackett_luce":
        return Likelihood(_plackett_luce, lambda target: float(target.rankings.weight.sum()), {})
    parameters: dict[str, Parameter] = {}
    p = min(max(tie_share, 0.01), 0.99)
    if config.ties == "davidson":
        parameters["ties.log_nu"] = log_nu = Parameter(torch.tensor(2 * p / (1 - p)).log())

        def pair_loss(scores: Tensor, pairs: judged.Pairs) -> Tensor:
            return rewards.davidson(scores, pairs, log_nu=log_nu)
    elif config.ties == "rao_kupper":
        parameters["ties.log_excess"] = log_excess = Parameter(torch.tensor(2 * p / (1 - p)).log())

        def pair_loss(scores: Tensor, pairs: judged.Pairs) -> Tensor:
            return rewards.rao_kupper(scores, pairs, log_excess=log_excess)
    else:

        def pair_loss(scores: Tensor, pairs: judged.Pairs) -> Tensor:
            return rewards.bradley_terry(scores, judged.smooth(pairs, rate=config.label_smoothing))

    def total(scores: Tensor, target: Target) -> Tensor:
        losses = pair_loss(scores, target.pairs)
        if config.centre:
            losses = losses + config.centre * rewards.centring(scores, target.pairs)
        return (target.pairs.weight * losses).sum()

    return Likelihood(total, lambda target: float(target.pairs.weight.sum()), parameters)


def _plackett_luce(scores: Tensor, target: Target) -> Tensor:
    r = target.rankings
    return (r.weight * rewards.plackett_luce(scores, r.items, r.ranks, r.mask)).sum()


def check_fits(config: RewardConfig, prompts: Sequence[JudgedPrompt]) -> None:
    """Soft labels and margins are only known to Bradley-Terry.

    Raises:
        ConfigError: the data has them and the settings ask for another likelihood.
    """
    if config.loss == "bradley_terry" and config.ties in ("soft", "drop"):
        return
    judgments = [judgment for one in prompts for judgment in one.judgments]
    soft = sum(judgment.label not in (None, 0.0, 0.5, 1.0) for judgment in judgments)
    margins = sum(bool(judgment.margin) for judgment in judgments)
    if soft or margins:
        name = "loss=plackett_luce" if config.loss == "plackett_luce" else f"ties={config.ties}"
        raise ConfigError(
            f"{name} knows no soft labels and no margins, but the data has {soft} comparisons with the one and "
            f"{margins} with the other. Use loss=bradley_terry ties=soft, or remove them from the data."
        )
