"""Sums, means and whitening over the True positions of a mask.

Every mean that enters a loss takes its denominator as an argument. Divide each micro-batch by the count of the whole
batch and the micro-batches add up to the full batch, in value and in gradient; divide each by its own count and a
short micro-batch weighs as much as a long one.
"""

import torch
from torch import Tensor

WHITENING_EPSILON = 1e-8


def zero_outside(x: Tensor, mask: Tensor) -> Tensor:
    """`x` with exact zeros where `mask` is False. Shapes: any, equal.

    `torch.where`, not a product: padding may hold NaN or infinity, and 0 * inf would carry it into the sum and the
    gradient.
    """
    return torch.where(mask, x, torch.zeros((), dtype=x.dtype, device=x.device))


def masked_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Sum over True positions. Shapes: `x` and `mask` equal -> ()."""
    return zero_outside(x, mask).sum()


def sequence_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Sum over the True tokens of each sequence. Shapes: (B, T), (B, T) -> (B,)."""
    return zero_outside(x, mask).sum(dim=-1)


def token_mean(x: Tensor, mask: Tensor, *, denominator: float | Tensor) -> Tensor:
    """Masked sum over `denominator`, the number of response tokens in the whole batch. Shapes: equal -> ().

    Raises:
        ValueError: `denominator` is not positive.
    """
    return masked_sum(x, mask) / positive(denominator, "denominator")


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over True positions, for statistics of a batch at hand; losses use `token_mean`. Shapes: equal -> ().

    Raises:
        ValueError: `mask` has no True position.
    """
    return token_mean(x, mask, denominator=_count(mask))


def masked_var(x: Tensor, mask: Tensor) -> Tensor:
    """Biased (population) variance over True positions. Shapes: equal -> ().

    Raises:
        ValueError: `mask` has no True position.
    """
    return masked_mean((x - masked_mean(x, mask)) ** 2, mask)


def whiten(x: Tensor, mask: Tensor) -> Tensor:
    """(x - mean) * rsqrt(var + 1e-8) over True positions, 0 elsewhere. Shapes: equal -> the same.

    Biased variance, as in the code of Ziegler et al. 2019 (arXiv 1909.08593).

    Raises:
        ValueError: `mask` has no True position.
    """
    scale = torch.rsqrt(masked_var(x, mask) + WHITENING_EPSILON)
    return zero_outside((x - masked_mean(x, mask)) * scale, mask)


def whiten_keep_mean(x: Tensor, mask: Tensor) -> Tensor:
    """`whiten`, then the mean added back: unit variance about the old mean. Shapes: equal -> the same.

    What Ziegler et al. do to rewards (`shift_mean=False`): their sign still tells a good response from a bad one.

    Raises:
        ValueError: `mask` has no True position.
    """
    return zero_outside(whiten(x, mask) + masked_mean(x, mask), mask)


def positive(value: float | Tensor, name: str) -> float | Tensor:
    """`value`, checked. A denominator of zero would turn the loss into NaN far from its cause."""
    if float(value) <= 0:
        raise ValueError(
            f"{name} is {float(value)}; it must be positive: the count (or total weight) of the whole batch"
        )
    return value


def _count(mask: Tensor) -> int:
    count = int(mask.sum())
    if count == 0:
        raise ValueError("the mask has no True position: there is no response token to average over")
    return count
