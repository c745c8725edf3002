"""Is sigma(Delta) a probability? Calibration of a reward model on judged pairs.

All functions take the score leads `delta` (P,) and labels (P,), the probability that the first response is better (0 to
1). Reliability is folded: which side is called first carries no information, so a pair is turned until the model
prefers the first, and the confidence max(p, 1 - p) is compared with how often the labelers agree.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Reliability(NamedTuple):
    """Non-empty bins of confidence, in increasing order; all tensors (bins,)."""

    confidence: Tensor
    """Mean confidence of the bin, 0.5 to 1."""
    accuracy: Tensor
    """Mean agreement of the labels with the model's preference."""
    size: Tensor
    """Pairs in the bin."""


def reliability_equal_width(delta: Tensor, label: Tensor, *, bins: int) -> Reliability:
    """Bins of equal width between 0.5 and 1. Shapes: (P,), (P,) -> up to (bins,)."""
    confidence, agreement = _fold(delta, label)
    edges = torch.linspace(0.5, 1.0, bins + 1, dtype=confidence.dtype, device=confidence.device)
    return _binned(confidence, agreement, edges)


def reliability_equal_mass(delta: Tensor, label: Tensor, *, bins: int) -> Reliability:
    """Bins between quantiles of the confidence; equal confidences share a bin. Shapes: (P,), (P,) -> up to (bins,)."""
    confidence, agreement = _fold(delta, label)
    levels = torch.linspace(0.0, 1.0, bins + 1, dtype=confidence.dtype, device=confidence.device)
    return _binned(confidence, agreement, torch.quantile(confidence, levels))


def expected_calibration_error(reliability: Reliability) -> Tensor:
    """Mean over pairs of |accuracy - confidence| of their bin. Guo et al. 2017 (arXiv 1706.04599), equation 3."""
    share = reliability.size / reliability.size.sum()
    return (share * (reliability.accuracy - reliability.confidence).abs()).sum()


def brier(delta: Tensor, label: Tensor) -> Tensor:
    """Mean (sigma(Delta) - label)^2. Shapes: (P,), (P,) -> ()."""
    return ((torch.sigmoid(delta) - label) ** 2).mean()


def negative_log_likelihood(delta: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy of sigma(Delta) with the label, in nats. Shapes: (P,), (P,) -> ()."""
    return (label * F.softplus(-delta) + (1 - label) * F.softplus(delta)).mean()


def fit_temperature(delta: Tensor, label: Tensor) -> float:
    """The T > 0 that minimises the negative log-likelihood of sigma(Delta / T). Shapes: (P,), (P,).

    Fit on pairs that neither trained nor test the model. The likelihood is convex in 1 / T, so bisection on its slope
    finds the one minimum. Guo et al. 2017 (arXiv 1706.04599), section 4.2.

    Raises:
        ValueError: no finite positive T is best: the scores order every pair as labelled, or order them no better
            than chance.
    """
    delta, label = delta.double(), label.double()

    delta, label = delta[delta != 0], label[delta != 0]  # no temperature moves a lead of 0
    if delta.numel() == 0:
        raise ValueError("every score lead is 0: there is no confidence to calibrate")

    def slope(inverse: float) -> float:
        return float(((torch.sigmoid(inverse * delta) - label) * delta).mean())

    if slope(0.0) >= 0:
        raise ValueError("the scores do not order these pairs better than chance: no positive temperature fits them")
    if slope(float("inf")) == 0:
        raise ValueError("the scores order every pair as labelled, so confidence has no limit; fit on more pairs")
    low, high = 0.0, 1.0
    while slope(high) < 0:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)


def _fold(delta: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Confidence and agreement (P,), (P,). A model without preference (Delta = 0) agrees by one half."""
    agreement = torch.where(delta > 0, label, torch.where(delta < 0, 1 - label, 0.5))
    return torch.sigmoid(delta.abs()), agreement.to(delta.dtype)


def _binned(confidence: Tensor, agreement: Tensor, edges: Tensor) -> Reliability:
    """Bins closed on the left; the last is closed on both sides."""
    bins = edges.numel() - 1
    which = torch.bucketize(confidence, edges[1:-1].contiguous(), right=True)
    count = torch.bincount(which, minlength=bins)
    filled = count > 0

    def mean(values: Tensor) -> Tensor:
        total = torch.zeros(bins, dtype=values.dtype, device=values.device).index_add(0, which, values)
        return total[filled] / count[filled]

    return Reliability(mean(confidence), mean(agreement), count[filled])
