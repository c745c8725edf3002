"""Numbers every right implementation must give, as functions of the implementation.

`test_*.py` hand in the real functions; `test_wrong_variants.py` hands in wrong ones and expects every check to fail.
Numbers were derived by hand and recomputed independently; tolerance 1e-4 unless stated.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import log
from typing import Any

import torch
from torch import Tensor

from plaudit.algorithms import advantages, kl, pairs, ppo

f64: Callable[..., Tensor] = partial(torch.tensor, dtype=torch.float64)


def close(actual: Tensor | float, expected: Sequence[Any] | Tensor | float, *, atol: float = 1e-4) -> None:
    torch.testing.assert_close(
        torch.as_tensor(actual, dtype=torch.float64), torch.as_tensor(expected, dtype=torch.float64), atol=atol, rtol=0
    )


def gradient(loss: Tensor, variable: Tensor) -> Tensor:
    return torch.autograd.grad(loss, variable, retain_graph=True)[0]


def all_true(x: Tensor) -> Tensor:
    return torch.ones(x.shape, dtype=torch.bool)


def one_pair(*, label: float = 1.0, margin: float = 0.0, weight: float = 1.0) -> pairs.Pairs:
    """Response 0 against response 1."""
    return pairs.Pairs(torch.tensor([0]), torch.tensor([1]), f64([label]), f64([margin]), f64([weight]))


def check_token_mean(reduce: Callable[..., Tensor]) -> None:
    """S2, P9: micro-batches with token losses [3] and [1, 1, 1] sum to the token mean 1.5, not to the mean of means."""
    micro_batches = [(f64([[3.0, 7.0]]), torch.tensor([[True, False]])), (f64([[1.0] * 3]), torch.ones(1, 3).bool())]
    close(sum(reduce(x, mask, denominator=4) for x, mask in micro_batches), 1.5)


def check_whitening(whiten: Callable[..., Tensor], whiten_keep_mean: Callable[..., Tensor]) -> None:
    """P6: 1.2 .. 2.0 with a garbage pad column."""
    x = torch.cat([f64([[1.2, 1.3, 1.4], [1.5, 1.6, 1.7], [1.8, 1.9, 2.0]]), torch.full((3, 1), 1e6).double()], dim=1)
    mask = torch.tensor([[True, True, True, False]] * 3)
    full = whiten(x, mask)[mask]
    close(torch.stack([full.mean(), full.var(correction=0)]), [0.0, 1.0], atol=1e-6)
    kept = whiten_keep_mean(x, mask)[mask]
    close(torch.stack([kept.min(), kept.max()]), [0.0508, 3.1492])


def check_gae(gae: Callable[..., advantages.Advantages]) -> None:
    """P4, beside a shorter response that ends in garbage padding."""
    rewards_, values = f64([[0, 0, 1], [1, 9, 9]]), f64([[0.5, 0.4, 0.6], [0.25, -3, 8]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    for lam, expected in ((1.0, [0.5, 0.6, 0.4]), (0.0, [-0.1, 0.2, 0.4]), (0.95, [0.451, 0.58, 0.4])):
        found = gae(rewards_, values, mask, gamma=1.0, lam=lam)
        close(found.advantages, [expected, [0.75, 0, 0]])
        close(found.returns[0], f64(expected) + values[0])
    close(gae(rewards_, values, mask, gamma=1.0, lam=0.95).returns[0], [0.951, 0.98, 1.0])


def check_policy_loss(policy_loss: Callable[..., ppo.PolicyLoss]) -> None:
    """P7: (ratio, advantage) -> (loss, d loss / d log-prob)."""
    cases = ((1.3, 1, -1.2, 0.0), (1.3, -1, 1.3, 1.3), (0.7, 1, -0.7, -0.7), (0.7, -1, 0.8, 0.0))
    for ratio, advantage, loss, slope in cases:
        log_prob = f64([[log(ratio)]]).requires_grad_()
        found = policy_loss(
            log_prob, f64([[0.0]]), f64([[advantage]]), torch.ones(1, 1).bool(), clip=0.2, denominator=1
        )
        close(torch.stack([found.loss, gradient(found.loss, log_prob).squeeze()]), [loss, slope])
        close(found.clip_fraction, float(slope == 0))


def check_first_step(policy_loss: Callable[..., ppo.PolicyLoss]) -> None:
    """P17: at the sampling policy ratio 1, clip fraction 0, approximate KL 0, loss -mean(A); padding is garbage."""
    log_prob = f64([[-1.0, -2.0, float("-inf")], [-0.5, float("nan"), 3.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    found = policy_loss(log_prob, log_prob, f64([[1, 2, 50], [-6, 50, 50]]), mask, clip=0.2, denominator=3)
    close(found.loss, 1.0, atol=1e-12)
    close(torch.stack(found[1:]), [0.0, 0.0, 1.0, 1.0], atol=0)


def check_value_loss(value_loss: Callable[..., ppo.ValueLoss]) -> None:
    """P8: (V, V_old, return) -> (loss, d loss / dV)."""
    for value, old, target, loss, slope in ((0.5, 0, 1, 0.32, 0), (0.5, 0, 0.1, 0.08, 0.4), (0.1, 0, 1, 0.405, -0.9)):
        v = f64([[value]]).requires_grad_()
        found = value_loss(v, f64([[old]]), f64([[target]]), torch.ones(1, 1).bool(), clip=0.2, denominator=1)
        close(torch.stack([found.loss, gradient(found.loss, v).squeeze()]), [loss, slope])


def check_score_position(shaped_rewards: Callable[..., Tensor]) -> None:
    """P5, the row "score at the last token": advantages at lambda .95 through the real GAE."""
    token_kl = f64([[0.01, 0.02, 0.0, 0.7]])
    mask = torch.tensor([[True, True, True, False]])
    shaped = shaped_rewards(token_kl, f64([1.0]), mask, beta=1.0)
    close(shaped, [[-0.01, -0.02, 1.0, 0.0]])
    found = advantages.gae(shaped, f64([[0.3, 0.2, 0.5, 0.7]]), mask, lam=0.95)
    close(found.advantages, [[0.60725, 0.755, 0.5, 0.0]])


def check_kl_gradients(k1: kl.Estimator, k2: kl.Estimator, k3: kl.Estimator) -> None:
    """P2: six uses of the estimators, their expected gradients by enumeration of six actions, to 1e-9."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
    ref = torch.randn(6, generator=generator, dtype=torch.float64).log_softmax(0)
    behaviour = torch.randn(6, generator=generator, dtype=torch.float64).softmax(0)
    log_prob = theta.log_softmax(0)
    prob = log_prob.exp()
    drawn = prob.detach()  # how often each action is sampled; no gradient flows through sampling
    ratio = prob / behaviour
    reverse = gradient((prob * (log_prob - ref)).sum(), theta)
    forward = gradient((ref.exp() * (ref - log_prob)).sum(), theta)
    assert float((reverse - forward).abs().max()) > 0.01
    expected = {
        "k1 in the reward, score-function gradient": (drawn * k1(log_prob, ref).detach() * log_prob, reverse),
        "k1 as a loss": (drawn * k1(log_prob, ref), torch.zeros_like(reverse)),
        "k2 as a loss": (drawn * k2(log_prob, ref), reverse),
        "k3 as a loss": (drawn * k3(log_prob, ref), forward),
        "off-policy ratio * k3": (behaviour * ratio * k3(log_prob, ref), reverse),
        "off-policy stopped ratio * k2": (behaviour * ratio.detach() * k2(log_prob, ref), reverse),
    }
    for use, (terms, right) in expected.items():
        difference = float((gradient(terms.sum(), theta) - right).abs().max())
        assert difference < 1e-9, f"{use}: off by {difference}"


def check_ranking_loss(loss: Callable[[Tensor, pairs.Pairs], Tensor]) -> None:
    """R2: scores (2, 1, 0) in true order; the mean over pairs and its gradient."""
    scores = f64([2.0, 1.0, 0.0]).requires_grad_()
    judged = pairs.ranking_pairs(
        torch.tensor([[0, 1, 2]]), torch.tensor([[1, 2, 3]]), torch.ones(1, 3).bool(), dtype=torch.float64
    )
    found = pairs.weighted_mean(loss(scores, judged), judged, denominator=1)
    close(found, 0.25115)
    close(gradient(found, scores), [-0.1294, 0, 0.1294])
    close(loss(scores, judged).sum(), 0.75345)


def check_very_wrong_pair(loss: Callable[[Tensor, pairs.Pairs], Tensor]) -> None:
    """A pair wrong by 50 has loss 50 and the full gradient (log(sigma + eps) saturates at 11.5 and has none)."""
    scores = f64([-25.0, 25.0]).requires_grad_()
    found = loss(scores, one_pair()).sum()
    close(found, 50.0)
    close(gradient(found, scores), [-1.0, 1.0])


def check_uncertainty_weighting(uncertainty_weighted: Callable[..., Tensor]) -> None:
    """R8: 1.34667 (1.22 with the unbiased variance); coefficient 0 is the mean."""
    scores = f64([[1.0], [1.2], [2.6]])
    close(uncertainty_weighted(scores, coefficient=0.5), [1.34667])
    close(uncertainty_weighted(scores, coefficient=0.0), [1.6], atol=1e-12)


def bandit(
    *,
    shaped_rewards: Callable[..., Tensor] = advantages.shaped_rewards,
    gae: Callable[..., advantages.Advantages] = advantages.gae,
    policy_loss: Callable[..., ppo.PolicyLoss] = ppo.policy_loss,
    value_loss: Callable[..., ppo.ValueLoss] = ppo.value_loss,
    kl_in_reward: float = 1.0,
    kl_loss: str | None = None,
    inner_epochs: int = 2,
    steps: int = 200,
) -> float:
    """Train the two-action bandit of P18 with PPO and return pi(1).

    Action 0 (reward 0) is one token long; action 1 (reward 1) is followed by a second token that is certain, so the
    batch is ragged. Expectations are exact: each action's loss is weighted by its probability when sampled.
    """
    logit = f64(-1.0).requires_grad_()
    value = f64([[0.0, 0.0], [0.0, 0.0]]).requires_grad_()  # of the state before each token; the first is shared
    mask = torch.tensor([[True, False], [True, True]])
    scores = f64([0.0, 1.0])
    ref = f64([[log(0.5), 0.0], [log(0.5), 0.0]])

    def log_probs() -> Tensor:
        certain = torch.zeros(2, dtype=torch.float64)
        signed = torch.stack([-logit, logit])
        return torch.stack([torch.nn.functional.logsigmoid(signed), certain], dim=1)

    optimizer = torch.optim.SGD([logit, value], lr=1.0)
    for _ in range(steps):
        old = log_probs().detach()
        # The first state is the same for both actions, so it has one value.
        old_values = torch.cat([value.detach()[:1, :1].expand(2, 1), value.detach()[:, 1:]], dim=1)
        shaped = shaped_rewards(kl.k1(old, ref), scores, mask, beta=kl_in_reward)
        estimated = gae(shaped, old_values, mask, lam=0.95)
        weight = old[:, 0].exp()
        for _ in range(inner_epochs):
            new = log_probs()
            values = torch.cat([value[:1, :1].expand(2, 1), value[:, 1:]], dim=1)
            loss = f64(0.0)
            for row in range(2):
                one = slice(row, row + 1)
                loss = loss + weight[row] * (
                    policy_loss(new[one], old[one], estimated.advantages[one], mask[one], clip=0.2, denominator=1).loss
                    + value_loss(
                        values[one], old_values[one], estimated.returns[one], mask[one], clip=0.2, denominator=1
                    ).loss
                )
                if kl_loss is not None:
                    loss = loss + weight[row] * ppo.kl_loss(
                        new[one], ref[one], mask[one], estimator=kl_loss, denominator=1
                    )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return float(torch.sigmoid(logit.detach()))


def check_bandit(**implementation: Callable[..., Any]) -> None:
    """P18: PPO with k1 in the reward reaches e / (e + 1)."""
    close(bandit(**implementation), 0.7310585786, atol=1e-6)  # type: ignore[arg-type]
