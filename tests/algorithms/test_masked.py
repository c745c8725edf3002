"""Masked sums, means, whitening: S1, S2, S3 (the part without a model), P6, P9."""

from math import log

import pytest
import torch
from oracle_checks import check_token_mean, check_whitening, close, f64, gradient

from plaudit.algorithms import masked


def test_s1_uniform_logits_cost_log_vocabulary() -> None:
    log_prob = torch.zeros(2, 3, 49152, dtype=torch.float64).log_softmax(-1)[..., 7]
    mask = torch.tensor([[True, True, False], [True, False, False]])
    loss = masked.token_mean(-log_prob, mask, denominator=3)
    close(loss, 10.8027)
    close(loss.exp(), 49152.0, atol=1e-6)


def test_s2_token_mean_over_micro_batches() -> None:
    check_token_mean(masked.token_mean)


def test_s3_masked_positions_have_zero_gradient() -> None:
    logits = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    labels = torch.tensor([[0, 3, 1, 4]])
    mask = torch.tensor([[False, True, True, False]])  # prompt, response, end of turn, padding
    log_prob = logits.log_softmax(-1).gather(2, labels.unsqueeze(2)).squeeze(2)
    slope = gradient(masked.token_mean(-log_prob, mask, denominator=2), logits).abs().sum(-1)
    assert slope[~mask].tolist() == [0.0, 0.0]
    assert (slope[mask] > 0.1).all()


def test_p6_whitening() -> None:
    check_whitening(masked.whiten, masked.whiten_keep_mean)


def test_whitening_leaves_padding_at_zero_and_survives_equal_values() -> None:
    x = f64([[2.0, 2.0, float("nan")]])
    mask = torch.tensor([[True, True, False]])
    close(masked.whiten(x, mask), [[0.0, 0.0, 0.0]], atol=0)
    close(masked.whiten_keep_mean(x, mask), [[2.0, 2.0, 0.0]], atol=0)


def test_p9_three_normalisations_of_the_same_token_losses() -> None:
    losses = f64([[1, 1, 1, 1], [3, 0, 0, 0]])
    mask = torch.tensor([[True] * 4, [True, False, False, False]])
    close(masked.token_mean(losses, mask, denominator=5), 1.4)
    close((masked.sequence_sum(losses, mask) / mask.sum(1)).mean(), 2.0)
    close(masked.token_mean(losses, mask, denominator=2 * 8), 0.4375)


def test_padding_content_never_reaches_value_or_gradient() -> None:
    x = f64([[1.0, float("nan")], [2.0, float("inf")]]).requires_grad_()
    mask = torch.tensor([[True, False], [True, False]])
    total = masked.masked_sum(x, mask)
    close(total, 3.0)
    close(gradient(total, x), [[1.0, 0.0], [1.0, 0.0]])
    close(masked.sequence_sum(x, mask), [1.0, 2.0])
    close(masked.masked_var(x, mask), 0.25)


@pytest.mark.parametrize("denominator", [0, -1.0, torch.tensor(0)])
def test_denominator_must_be_positive(denominator: float | torch.Tensor) -> None:
    with pytest.raises(ValueError, match="denominator is"):
        masked.token_mean(f64([[1.0]]), torch.ones(1, 1).bool(), denominator=denominator)


def test_empty_mask_is_an_error() -> None:
    with pytest.raises(ValueError, match="no True position"):
        masked.masked_mean(f64([[log(2)]]), torch.zeros(1, 1).bool())
