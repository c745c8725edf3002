"""PPO losses and diagnostics: P7, P8, P17, dual clip, explained variance, entropy."""

from math import log

import pytest
import torch
from oracle_checks import all_true, check_first_step, check_policy_loss, check_value_loss, close, f64, gradient
from sklearn.metrics import explained_variance_score

from plaudit.algorithms import kl, masked, ppo


def test_p7_clipped_policy_loss() -> None:
    check_policy_loss(ppo.policy_loss)


def test_p8_clipped_value_loss() -> None:
    check_value_loss(ppo.value_loss)


def test_p17_first_step() -> None:
    check_first_step(ppo.policy_loss)


def test_p17_first_loss_is_zero_after_whitening_and_kl_is_zero_at_the_reference() -> None:
    log_prob = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [True] * 4 + [False]])
    advantage = masked.whiten(log_prob.roll(1, 0), mask)
    close(ppo.policy_loss(log_prob, log_prob, advantage, mask, denominator=11).loss, 0.0, atol=1e-12)
    close(kl.sequence_kl(log_prob, log_prob, mask), [0.0, 0.0, 0.0], atol=0)


def test_diagnostics_of_a_moved_policy() -> None:
    log_prob = f64([[log(1.5), log(0.9), 0.0]])
    mask = torch.tensor([[True, True, False]])
    found = ppo.policy_loss(log_prob, torch.zeros_like(log_prob), f64([[1.0, 1.0, 1.0]]), mask, denominator=2)
    close(found.approx_kl, 0.25 * (log(1.5) ** 2 + log(0.9) ** 2), atol=1e-12)
    close(found.clip_fraction, 0.5)
    close(found.ratio_mean, 1.2, atol=1e-12)
    close(found.ratio_max, 1.5, atol=1e-12)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"), [(5.0, -1, 3.0, 0.0), (2.0, -1, 2.0, 2.0), (5, 1, -1.2, 0)]
)
def test_dual_clip_bounds_negative_advantages_only(ratio: float, advantage: int, loss: float, slope: float) -> None:
    log_prob = f64([[log(ratio)]]).requires_grad_()
    found = ppo.policy_loss(
        log_prob, f64([[0.0]]), f64([[advantage]]), torch.ones(1, 1).bool(), clip=0.2, dual_clip=3.0, denominator=1
    )
    close(torch.stack([found.loss, gradient(found.loss, log_prob).squeeze()]), [loss, slope])
    close(found.clip_fraction, float(slope == 0))


def test_dual_clip_bound_must_exceed_one() -> None:
    with pytest.raises(ValueError, match="must be above 1"):
        ppo.dual_clipped_surrogate(f64([1.0]), f64([1.0]), clip=0.2, bound=1.0)


def test_value_clip_fraction() -> None:
    values, old, returns = f64([[0.5, 0.1]]), f64([[0.0, 0.0]]), f64([[1.0, 1.0]])
    close(ppo.value_loss(values, old, returns, all_true(values), denominator=2).clip_fraction, 0.5)


def test_explained_variance_agrees_with_sklearn() -> None:
    generator = torch.Generator().manual_seed(0)
    returns = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    values = returns + 0.5 * torch.randn(4, 6, generator=generator, dtype=torch.float64)
    mask = torch.rand(4, 6, generator=generator) < 0.6
    expected = explained_variance_score(returns[mask].numpy(), values[mask].numpy())
    close(ppo.explained_variance(values.where(mask, torch.nan), returns, mask), expected, atol=1e-12)


def test_explained_variance_of_constant_returns() -> None:
    mask = torch.ones(1, 2).bool()
    close(ppo.explained_variance(f64([[1, 1]]), f64([[2, 2]]), mask), 1.0)
    close(ppo.explained_variance(f64([[0, 1]]), f64([[2, 2]]), mask), 0.0)


def test_entropy() -> None:
    close(ppo.entropy(f64([[0.0, 0.0], [float("-inf"), 3.0]])), [log(2), 0.0], atol=1e-12)
