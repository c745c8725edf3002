"""Moving all scores of a reward model by a constant, in a format whose head has no bias.

A preference fixes scores up to a constant, and RL needs the constant: InstructGPT (section 3.5) makes demonstrations
score 0 on average. Hugging Face's sequence classifiers have a linear head without bias, so the constant c goes into the
weight: c u is subtracted, u being a direction with u.h = 1 for every final state h, as nearly as there is one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

RIDGE = 1e-4


class Shifted(NamedTuple):
    """A head whose scores have mean 0 on the normalisation set."""

    head: Tensor  # (H,) float32
    shift: float  # the mean that was subtracted
    direction: Tensor  # (H,) float64: u


def zero_mean_head(head: Tensor, *, fit: Tensor, zero_on: Tensor) -> Shifted:
    """Subtract the mean score over `zero_on` from all scores.

    Args:
        head: (H,).
        fit: (S, H) final states that u.h = 1 is fitted on (ridge least squares in float64); many and varied.
        zero_on: (R, H) final states whose mean score becomes 0, exactly up to rounding.
    """
    direction = constant_direction(fit)
    direction = direction / (zero_on.double() @ direction).mean()
    shift = float((zero_on.double() @ head.detach().double()).mean())
    moved = head.detach().double() - shift * direction
    return Shifted(moved.to(torch.float32), shift, direction)


def constant_direction(states: Tensor) -> Tensor:
    """The (H,) float64 direction u that minimises sum (u.h - 1)^2 + ridge |u|^2 over (S, H) states.

    The ridge is relative to the states' mean square, and keeps u from fitting fewer states than there are dimensions.
    """
    h = states.double()
    gram = h.T @ h
    ridge = RIDGE * gram.diagonal().mean()
    return torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=torch.float64), h.sum(dim=0))


def spread_within(values: Tensor, group: Tensor) -> float:
    """Standard deviation of (S,) values about the mean of their group, (S,) indices: what could change an order."""
    count = torch.zeros(int(group.max()) + 1, dtype=values.dtype).index_add_(0, group, torch.ones_like(values))
    mean = torch.zeros_like(count).index_add_(0, group, values) / count.clamp(min=1)
    return float((values - mean[group]).square().mean().sqrt())
