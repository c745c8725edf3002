"""P18: a two-action bandit, rewards (1, 0), uniform reference, beta 1, reached by the real losses.

The optimum is pi(1) = e / (e + 1) = .73106 with KL .11094 and objective .62011. A KL loss of the wrong kind moves it.
"""

from math import exp, log

import pytest
import torch
from oracle_checks import bandit, check_bandit, close, f64

from plaudit.algorithms import dpo, kl, pairs


def test_p18_ppo_with_k1_in_the_reward_reaches_the_optimum() -> None:
    check_bandit()


def test_p18_kl_and_objective_at_the_optimum() -> None:
    log_pi = f64([[log(0.7310585786)], [log(1 - 0.7310585786)]])
    per_sequence = kl.sequence_kl(log_pi, torch.full_like(log_pi, log(0.5)), torch.ones(2, 1).bool())
    divergence = float((log_pi.exp().squeeze() * per_sequence).sum())
    close(divergence, 0.11094)
    close(0.7310585786 - divergence, log((exp(1) + 1) / 2), atol=1e-6)


@pytest.mark.parametrize(("estimator", "fixed_point"), [("k2", 0.7310585786), ("k3", 0.5**0.5)])
def test_p18_kl_as_a_loss(estimator: str, fixed_point: float) -> None:
    """k2 has the gradient of the reverse KL and keeps the optimum; k3 has that of the forward KL: 1 / sqrt(2)."""
    found = bandit(kl_in_reward=0.0, kl_loss=estimator, inner_epochs=1, steps=300)
    close(found, fixed_point, atol=1e-6)


def test_p18_without_kl_the_policy_collapses() -> None:
    assert bandit(kl_in_reward=0.0, steps=300) > 0.99


def _train_offline(loss: object, *, steps: int = 1000, rate: float = 1.0) -> float:
    """pi(0) after gradient descent on a pairwise loss of two responses under a uniform reference."""
    logit = f64(0.0).requires_grad_()
    ref = f64([log(0.5), log(0.5)])
    for _ in range(steps):
        log_prob = torch.stack([torch.nn.functional.logsigmoid(logit), torch.nn.functional.logsigmoid(-logit)])
        (slope,) = torch.autograd.grad(loss(log_prob, ref).losses.sum(), logit)  # type: ignore[operator]
        with torch.no_grad():
            logit -= rate * slope
    return float(torch.sigmoid(logit.detach()))


def _pair(label: float) -> pairs.Pairs:
    judged = pairs.strict_pairs(torch.tensor([0]), torch.tensor([1]), dtype=torch.float64)
    return judged._replace(label=f64([label]))


def test_p18_dpo_on_infinite_bradley_terry_labels_reaches_the_optimum() -> None:
    """Infinitely many labels drawn from sigma(r_0 - r_1) are one soft label sigma(1)."""
    judged = _pair(1 / (1 + exp(-1)))
    close(_train_offline(lambda p, r: dpo.dpo(p, r, judged, beta=1.0)), 0.73106, atol=1e-4)


@pytest.mark.parametrize(("tau", "fixed_point", "rate"), [(0.1, 0.99331, 0.05), (1.0, 0.62246, 0.05)])
def test_d5_ipo_bandit(tau: float, fixed_point: float, rate: float) -> None:
    """One response always preferred: IPO stops at sigma(1 / (2 tau)) where DPO would go on to 1."""
    found = _train_offline(lambda p, r: dpo.ipo(p, r, _pair(1.0), tau=tau), rate=rate)
    close(found, fixed_point)


def test_d5_dpo_has_no_bound_on_the_same_bandit() -> None:
    assert _train_offline(lambda p, r: dpo.dpo(p, r, _pair(1.0), beta=1.0)) > 0.998
