"""DPO and relatives: D1 to D5, D9, D10 (the bandits of D5 and P18 are in test_bandit.py)."""

from math import exp, log

import pytest
import torch
from oracle_checks import close, f64, gradient, one_pair
from torch import Tensor

from plaudit.algorithms import dpo, pairs

ZERO = f64([0.0, 0.0])


def _at(h: float) -> Tensor:
    """Log-probs whose log-ratio margin against ZERO is h."""
    return f64([h, 0.0]).requires_grad_()


@pytest.mark.parametrize("beta", [0.01, 0.1, 5.0])
def test_d1_at_the_reference(beta: float) -> None:
    same = f64([-12.0, -30.0])
    close(dpo.dpo(same, same, one_pair(), beta=beta).losses, [0.693147], atol=1e-6)


def test_d1_value_and_gradient() -> None:
    log_prob = _at(1.5)
    loss = dpo.dpo(log_prob, ZERO, one_pair(), beta=0.1).losses.sum()
    close(loss, 0.62096)
    close(gradient(loss, log_prob), [-0.046257, 0.046257], atol=1e-6)
    log_prob = _at(2.0)
    loss = dpo.dpo(log_prob, ZERO, one_pair(), beta=0.1).losses.sum()
    close(loss, 0.59814)
    close(gradient(loss, log_prob) / -0.1, [0.45017, -0.45017])


def test_d2_implicit_reward_of_the_optimal_policy_is_the_reward() -> None:
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(5, generator=generator, dtype=torch.float64).log_softmax(0)
    reward, beta = torch.randn(5, generator=generator, dtype=torch.float64), 0.3
    optimal = (reference + reward / beta).log_softmax(0)
    judged = pairs.strict_pairs(torch.tensor([0, 1]), torch.tensor([2, 3]), dtype=torch.float64)
    found = dpo.dpo(optimal, reference, judged, beta=beta)
    offset = found.rewards - reward
    assert float(offset.std()) < 1e-9
    close(found.margins, pairs.margins(reward, judged), atol=1e-9)
    log_partition = torch.logsumexp(reference + reward / beta, 0)
    close((optimal.exp() * (reward - found.rewards)).sum(), beta * log_partition, atol=1e-9)


def test_d3_smoothed_dpo_stops_at_a_finite_margin() -> None:
    log_prob = _at(21.9722)
    found = dpo.cdpo(log_prob, ZERO, one_pair(), beta=0.1, flip_rate=0.1)
    close(found.losses, [0.32508])
    close(gradient(found.losses.sum(), log_prob), [0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize(("z", "loss"), [(-1.0, 1.43826), (0.0, 0.69315), (2.0, -0.12307)])
def test_d4_robust_dpo_is_unbiased_for_clean_labels(z: float, loss: float) -> None:
    def robust(label: float) -> Tensor:
        return dpo.robust_dpo(_at(z), ZERO, one_pair(label=label), beta=1.0, flip_rate=0.1).losses

    close(robust(1.0), [loss])
    close(0.9 * robust(1.0) + 0.1 * robust(0.0), dpo.dpo(_at(z), ZERO, one_pair(), beta=1.0).losses, atol=1e-12)


def test_d4_without_flips_all_three_agree() -> None:
    log_prob, pair = _at(0.7), one_pair()
    plain = dpo.dpo(log_prob, ZERO, pair, beta=0.5).losses
    close(dpo.cdpo(log_prob, ZERO, pair, beta=0.5, flip_rate=0.0).losses, plain, atol=0)
    close(dpo.robust_dpo(log_prob, ZERO, pair, beta=0.5, flip_rate=0.0).losses, plain, atol=0)


def test_d5_ipo() -> None:
    close(dpo.ipo(_at(0.0), ZERO, one_pair(), tau=0.1).losses, [25.0])
    close(dpo.ipo(_at(5.0), ZERO, one_pair(), tau=0.1).losses, [0.0], atol=1e-12)


def test_ipo_per_token_ignores_length() -> None:
    """Twice the tokens at the same per-token log-probs change nothing; the sum form doubles h."""
    log_prob, reference, lengths = f64([-4.0, -9.0]), f64([-6.0, -8.0]), f64([2, 4])
    short = dpo.ipo_per_token(log_prob, reference, lengths, one_pair(), tau=0.5)
    double = dpo.ipo_per_token(2 * log_prob, 2 * reference, 2 * lengths, one_pair(), tau=0.5)
    close(short.losses, double.losses, atol=1e-12)
    close(short.losses, [(1.0 + 0.25 - 1.0) ** 2], atol=1e-12)
    close(dpo.ipo(log_prob, reference, one_pair(), tau=0.5).losses, [(2.0 + 1.0 - 1.0) ** 2], atol=1e-12)


def test_ipo_refuses_margins() -> None:
    with pytest.raises(ValueError, match="no margin"):
        dpo.ipo(_at(0.0), ZERO, one_pair(margin=1.0), tau=0.1)


def test_d9_swapping_the_sides() -> None:
    pair = one_pair()
    turned = pair._replace(first=pair.second, second=pair.first)
    log_prob, beta, h = _at(1.3), 0.1, 1.3
    there, back = (dpo.dpo(log_prob, ZERO, judged, beta=beta) for judged in (pair, turned))
    close(there.margins, -back.margins, atol=1e-12)
    close(there.losses - back.losses, [-beta * h], atol=1e-12)


def test_d10_accuracy_is_zero_at_the_first_step() -> None:
    same = f64([-3.0, -5.0])
    found = dpo.dpo(same, same, one_pair(), beta=0.1)
    close(found.rewards, [0.0, 0.0], atol=0)
    close(torch.stack(found.accuracy), [0.0, 1.0], atol=0)
    close(dpo.dpo(f64([-2.9, -5.0]), same, one_pair(), beta=0.1).accuracy.correct, 1.0, atol=0)


def test_result_reports_absolute_log_probs_without_gradient() -> None:
    log_prob = f64([-3.0, -5.0, -4.0]).requires_grad_()
    judged = pairs.strict_pairs(torch.tensor([2, 0]), torch.tensor([1, 1]), dtype=torch.float64)
    found = dpo.dpo(log_prob, f64([-4.0, -4.0, -4.0]), judged, beta=0.5)
    close(found.first_log_prob, [-4.0, -3.0])
    close(found.second_log_prob, [-5.0, -5.0])
    close(found.margins, [0.5, 1.0])
    assert not any(x.requires_grad for x in (found.rewards, found.margins, found.first_log_prob))


def test_soft_labels_reach_the_loss() -> None:
    q, h = 0.7, 0.9
    expected = q * log(1 + exp(-h)) + (1 - q) * log(1 + exp(h))
    close(dpo.dpo(_at(h), ZERO, one_pair(label=q), beta=1.0).losses, [expected], atol=1e-12)
    close(
        dpo.ipo(_at(h), ZERO, one_pair(label=q), tau=0.5).losses, [q * (h - 1) ** 2 + (1 - q) * (h + 1) ** 2], atol=1e-9
    )
