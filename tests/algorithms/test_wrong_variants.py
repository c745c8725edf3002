"""Every oracle must go red for the mistake it is there to catch: each check is handed a plausible wrong variant."""

from collections.abc import Callable

import oracle_checks as oracles
import pytest
import torch
from torch import Tensor

from plaudit.algorithms import advantages, ensemble, kl, masked, pairs, ppo, rewards


def mean_of_means(x: Tensor, mask: Tensor, *, denominator: float) -> Tensor:  # noqa: ARG001
    return masked.masked_mean(x, mask) / 2


def mean_without_mask(x: Tensor, mask: Tensor, *, denominator: float) -> Tensor:  # noqa: ARG001
    return x.sum() / denominator


def whiten_unbiased(x: Tensor, mask: Tensor) -> Tensor:
    return (x - masked.masked_mean(x, mask)) * torch.rsqrt(x[mask].var() + 1e-8)


def whiten_over_padding(x: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG001
    return (x - x.mean()) * torch.rsqrt(x.var(correction=0) + 1e-8)


def kept(whiten: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, mask: whiten(x, mask) + masked.masked_mean(x, mask)


def gae_without_mask(rewards: Tensor, values: Tensor, mask: Tensor, **settings: float) -> advantages.Advantages:
    return advantages.gae(rewards, values, torch.ones_like(mask), **settings)


def gae_flipped(rewards: Tensor, values: Tensor, mask: Tensor, **settings: float) -> advantages.Advantages:
    found = advantages.gae(rewards, values, mask, **settings)
    return advantages.Advantages(-found.advantages, found.returns)


def gae_returns_after_whitening(
    rewards: Tensor, values: Tensor, mask: Tensor, **settings: float
) -> advantages.Advantages:
    found = advantages.gae(rewards, values, mask, **settings)
    return advantages.Advantages(found.advantages, masked.whiten(found.advantages, mask) + values)


def gae_shifted_values(rewards: Tensor, values: Tensor, mask: Tensor, **settings: float) -> advantages.Advantages:
    """Values read at the state *after* each token."""
    return advantages.gae(rewards, values.roll(-1, dims=1), mask, **settings)


def rewards_with_flipped_kl(token_kl: Tensor, scores: Tensor, mask: Tensor, *, beta: float) -> Tensor:
    return advantages.shaped_rewards(token_kl, scores, mask, beta=-beta)


def rewards_one_token_late(token_kl: Tensor, scores: Tensor, mask: Tensor, *, beta: float) -> Tensor:
    shaped = advantages.shaped_rewards(token_kl, torch.zeros_like(scores), mask, beta=beta)
    late = mask.sum(dim=1).clamp(max=mask.shape[1] - 1)
    return shaped.scatter_add(1, late.unsqueeze(1), scores.unsqueeze(1))


def rewards_on_every_token(token_kl: Tensor, scores: Tensor, mask: Tensor, *, beta: float) -> Tensor:
    return masked.zero_outside(scores.unsqueeze(1) - beta * token_kl, mask)


def policy_loss_flipped(
    log_prob: Tensor, old: Tensor, advantage: Tensor, mask: Tensor, **settings: float
) -> ppo.PolicyLoss:
    return ppo.policy_loss(log_prob, old, -advantage, mask, **settings)


def policy_loss_inverse_ratio(
    log_prob: Tensor, old: Tensor, advantage: Tensor, mask: Tensor, **settings: float
) -> ppo.PolicyLoss:
    return ppo.policy_loss(old, log_prob, advantage, mask, **settings)


def policy_loss_optimistic(
    log_prob: Tensor, old: Tensor, advantage: Tensor, mask: Tensor, *, clip: float, denominator: float
) -> ppo.PolicyLoss:
    """The minimum in place of the maximum."""
    ratio = (log_prob - old).exp()
    losses = torch.minimum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))
    right = ppo.policy_loss(log_prob, old, advantage, mask, clip=clip, denominator=denominator)
    return right._replace(loss=masked.token_mean(losses, mask, denominator=denominator))


def policy_loss_without_mask(
    log_prob: Tensor, old: Tensor, advantage: Tensor, mask: Tensor, **settings: float
) -> ppo.PolicyLoss:
    return ppo.policy_loss(log_prob, old, advantage, torch.ones_like(mask), **settings)


def value_loss_optimistic(
    values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, *, clip: float, denominator: float
) -> ppo.ValueLoss:
    clipped = old + (values - old).clamp(-clip, clip)
    losses = 0.5 * torch.minimum((values - returns) ** 2, (clipped - returns) ** 2)
    return ppo.ValueLoss(masked.token_mean(losses, mask, denominator=denominator), values.sum())


def value_loss_without_half(
    values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, **settings: float
) -> ppo.ValueLoss:
    found = ppo.value_loss(values, old, returns, mask, **settings)
    return ppo.ValueLoss(2 * found.loss, found.clip_fraction)


def k3_reversed(log_prob: Tensor, ref_log_prob: Tensor) -> Tensor:
    return kl.k3(ref_log_prob, log_prob)


def k1_flipped(log_prob: Tensor, ref_log_prob: Tensor) -> Tensor:
    return ref_log_prob - log_prob


def bradley_terry_with_epsilon(scores: Tensor, judged: pairs.Pairs) -> Tensor:
    return -(torch.sigmoid(pairs.margins(scores, judged)) + 1e-5).log()


def bradley_terry_flipped(scores: Tensor, judged: pairs.Pairs) -> Tensor:
    return rewards.bradley_terry(-scores, judged)


def uncertainty_unbiased(scores: Tensor, *, coefficient: float) -> Tensor:
    return scores.mean(dim=0) - coefficient * scores.var(dim=0)


def uncertainty_zero_as_unset(scores: Tensor, *, coefficient: float) -> Tensor:
    return ensemble.uncertainty_weighted(scores, coefficient=coefficient or 1.0)


WRONG: dict[str, Callable[[], None]] = {
    "mean of means": lambda: oracles.check_token_mean(mean_of_means),
    "token mean without mask": lambda: oracles.check_token_mean(mean_without_mask),
    "whitening with the unbiased variance": lambda: oracles.check_whitening(whiten_unbiased, kept(whiten_unbiased)),
    "whitening over padding": lambda: oracles.check_whitening(whiten_over_padding, kept(whiten_over_padding)),
    "rewards whitened without their mean": lambda: oracles.check_whitening(masked.whiten, masked.whiten),
    "GAE without mask": lambda: oracles.check_gae(gae_without_mask),
    "GAE with values one token off": lambda: oracles.check_gae(gae_shifted_values),
    "GAE with returns after whitening": lambda: oracles.check_gae(gae_returns_after_whitening),
    "flipped advantage": lambda: oracles.check_gae(gae_flipped),
    "flipped advantage, in the bandit": lambda: oracles.check_bandit(gae=gae_flipped),
    "flipped sign of KL": lambda: oracles.check_score_position(rewards_with_flipped_kl),
    "flipped sign of KL, in the bandit": lambda: oracles.check_bandit(shaped_rewards=rewards_with_flipped_kl),
    "score one token late": lambda: oracles.check_score_position(rewards_one_token_late),
    "score on every token": lambda: oracles.check_score_position(rewards_on_every_token),
    "score on every token, in the bandit": lambda: oracles.check_bandit(shaped_rewards=rewards_on_every_token),
    "flipped policy loss": lambda: oracles.check_policy_loss(policy_loss_flipped),
    "flipped policy loss, in the bandit": lambda: oracles.check_bandit(policy_loss=policy_loss_flipped),
    "old over new in the ratio": lambda: oracles.check_policy_loss(policy_loss_inverse_ratio),
    "minimum in the policy loss": lambda: oracles.check_policy_loss(policy_loss_optimistic),
    "policy loss without mask": lambda: oracles.check_first_step(policy_loss_without_mask),
    "minimum in the value loss": lambda: oracles.check_value_loss(value_loss_optimistic),
    "value loss without one half": lambda: oracles.check_value_loss(value_loss_without_half),
    "k3 with the ratio reversed": lambda: oracles.check_kl_gradients(kl.k1, kl.k2, k3_reversed),
    "k1 with the ratio reversed": lambda: oracles.check_kl_gradients(k1_flipped, kl.k2, kl.k3),
    "k1 where k2 belongs": lambda: oracles.check_kl_gradients(kl.k1, kl.k1, kl.k3),
    "log(sigmoid + epsilon)": lambda: oracles.check_very_wrong_pair(bradley_terry_with_epsilon),
    "losing response preferred": lambda: oracles.check_ranking_loss(bradley_terry_flipped),
    "unbiased variance of an ensemble": lambda: oracles.check_uncertainty_weighting(uncertainty_unbiased),
    "coefficient 0 taken as unset": lambda: oracles.check_uncertainty_weighting(uncertainty_zero_as_unset),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_oracle_rejects(mistake: str) -> None:
    with pytest.raises(AssertionError):
        WRONG[mistake]()
