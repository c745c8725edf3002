"""KL estimators and the adaptive coefficient: P1, P2, P3, E9."""

import itertools

import numpy as np
import pytest
import torch
from oracle_checks import check_kl_gradients, close, f64, gradient

from plaudit.algorithms import kl, ppo


@pytest.mark.parametrize(
    ("mu", "bias_k2", "spread"), [(0.1, 0.0025, (20.0, 1.42, 1.417)), (1.0, 0.25, (2.0, 1.73, 1.695))]
)
def test_p1_bias_and_spread_of_the_estimators(mu: float, bias_k2: float, spread: tuple[float, ...]) -> None:
    """Sampling from N(0, 1) against N(mu, 1), KL = mu^2 / 2; expectations by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    x, weight = f64(nodes), f64(weights / weights.sum())
    log_prob, ref = -0.5 * x**2, -0.5 * (x - mu) ** 2
    truth = mu * mu / 2
    for estimator, bias, relative in zip((kl.k1, kl.k2, kl.k3), (0.0, bias_k2, 0.0), spread, strict=True):
        values = estimator(log_prob, ref)
        mean = (weight * values).sum()
        close(mean / truth - 1, bias, atol=1e-6)
        close((weight * (values - mean) ** 2).sum().sqrt() / truth, relative, atol=5e-3)
    assert (kl.k3(log_prob, ref) >= 0).all()


def test_p2_value_is_not_gradient() -> None:
    check_kl_gradients(kl.k1, kl.k2, kl.k3)


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_p2_kl_loss_is_the_token_mean_of_its_estimator(estimator: str) -> None:
    log_prob, ref = f64([[-1.0, -2.0, float("nan")]]).requires_grad_(), f64([[-1.5, -1.0, float("inf")]])
    mask = torch.tensor([[True, True, False]])
    loss = ppo.kl_loss(log_prob, ref, mask, estimator=estimator, denominator=2)
    expected = kl.ESTIMATORS[estimator](log_prob, ref)[mask].mean()
    close(loss, expected, atol=1e-12)
    assert gradient(loss, log_prob)[~mask].tolist() == [0.0]


def test_k1_as_a_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="expected gradient"):
        ppo.kl_loss(f64([[0.0]]), f64([[0.0]]), torch.ones(1, 1).bool(), estimator="k1", denominator=1)
    with pytest.raises(ValueError, match="unknown KL estimator"):
        ppo.kl_loss(f64([[0.0]]), f64([[0.0]]), torch.ones(1, 1).bool(), estimator="k4", denominator=1)


def test_k3_neither_overflows_nor_turns_around_far_from_the_reference() -> None:
    log_prob = f64([-5.0, -30.0, -1000.0]).requires_grad_()
    values = kl.k3(log_prob, torch.zeros(3, dtype=torch.float64))
    assert torch.isfinite(values).all()
    assert values[0] < values[1] == values[2]
    slope = gradient(values.sum(), log_prob)
    close(slope[1:], [0.0, 0.0], atol=0)
    assert slope[0] < -100  # towards a likelier token


@pytest.mark.parametrize(("observed", "expected"), [(12, 0.151536), (3, 0.148464), (6.6, 0.150768), (6, 0.15)])
def test_p3_adaptive_coefficient(observed: float, expected: float) -> None:
    state = kl.AdaptiveKL(coefficient=0.15, target=6, horizon=10_000)
    adapted = kl.adapt(state, observed=observed, episodes=512)
    close(adapted.coefficient, expected, atol=1e-9)
    assert (adapted.target, adapted.horizon) == (6, 10_000)


def test_adaptive_target_must_be_positive() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        kl.adapt(kl.AdaptiveKL(0.1, 0.0, 10_000), observed=1.0, episodes=1)


def _toy_model(seed: int) -> torch.Tensor:
    """Log-probs of a language model over 3 tokens and responses of 2: (first, second given first)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, generator=generator, dtype=torch.float64).log_softmax(-1)


def _token_log_probs(model: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
    first, second = responses[:, 0], responses[:, 1]
    return torch.stack([model[0, first], model[1 + first, second]], dim=1)


@pytest.mark.parametrize("name", ["k1", "k3"])
def test_e9_monte_carlo_mean_meets_the_exact_sequence_kl(name: str) -> None:
    policy, reference = _toy_model(0), _toy_model(1)
    everything = torch.tensor(list(itertools.product(range(3), repeat=2)))
    log_p, log_q = (_token_log_probs(model, everything).sum(1) for model in (policy, reference))
    exact = (log_p.exp() * (log_p - log_q)).sum()
    drawn = everything[torch.multinomial(log_p.exp(), 20_000, True, generator=torch.Generator().manual_seed(2))]
    mask = torch.ones(drawn.shape, dtype=torch.bool)
    samples = kl.sequence_kl(
        _token_log_probs(policy, drawn), _token_log_probs(reference, drawn), mask, estimator=kl.ESTIMATORS[name]
    )
    assert abs(float(samples.mean() - exact)) < 3 * float(samples.std()) / 20_000**0.5


def test_e9_kl_with_itself_is_zero_and_with_another_temperature_is_not() -> None:
    model = _toy_model(0)
    cooled = (model / 0.7).log_softmax(-1)
    close(kl.k1(model, model), torch.zeros_like(model), atol=0)
    close(kl.k3(model, model), torch.zeros_like(model), atol=0)
    assert float((cooled.exp() * kl.k1(cooled, model)).sum(-1).min()) > 0
