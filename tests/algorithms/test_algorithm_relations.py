"""What must not change a result: padding, batching, order, sides. On random shapes and values, float64, to 1e-9."""

from collections.abc import Callable
from math import comb

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_checks import close, f64, gradient
from torch import Tensor

from plaudit.algorithms import advantages, kl, masked, pairs, ppo, rewards

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)
sizes = st.lists(st.integers(1, 6), min_size=1, max_size=5)  # response lengths


class Batch:
    """Random ragged responses; garbage on padding."""

    def __init__(self, seed: int, lengths: list[int], *, padding: int = 0) -> None:
        T = max(lengths) + padding
        self.generator = torch.Generator().manual_seed(seed)
        self.mask = torch.arange(T).expand(len(lengths), T) < torch.tensor(lengths).unsqueeze(1)
        self.tokens = sum(lengths)
        self.log_prob, self.old, self.advantage, self.returns = (self._draw(lengths) for _ in range(4))
        self.scores = torch.randn(len(lengths), generator=self.generator, dtype=torch.float64)

    def _draw(self, lengths: list[int]) -> Tensor:
        # Drawn flat, so that the same seed gives the same responses whatever the padding.
        flat = 0.4 * torch.randn(sum(lengths), generator=self.generator, dtype=torch.float64)
        garbage = f64([torch.nan if t % 2 else 1e300 for t in range(self.mask.shape[1])])
        padded = garbage.expand(self.mask.shape).clone()
        padded[self.mask] = flat
        return padded

    def rows(self, keep: slice) -> list[Tensor]:
        return [x[keep] for x in (self.log_prob, self.old, self.advantage, self.returns, self.mask)]


Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int], Tensor]
LOSSES: dict[str, Loss] = {
    "policy": lambda x, old, a, _, m, n: ppo.policy_loss(x, old, a, m, denominator=n).loss,
    "policy, dual clip": lambda x, old, a, _, m, n: ppo.policy_loss(x, old, a, m, dual_clip=1.1, denominator=n).loss,
    "value": lambda x, old, _, ret, m, n: ppo.value_loss(x, old, ret, m, denominator=n).loss,
    "k2": lambda x, old, _, __, m, n: ppo.kl_loss(x, old, m, estimator="k2", denominator=n),
    "k3": lambda x, old, _, __, m, n: ppo.kl_loss(x, old, m, estimator="k3", denominator=n),
    "token mean": lambda x, _, __, ___, m, n: masked.token_mean(-x, m, denominator=n),
}


@pytest.mark.parametrize("name", LOSSES)
@few
@given(seed=seeds, lengths=sizes, padding=st.integers(1, 5))
def test_padding_changes_no_loss_and_no_gradient(name: str, seed: int, lengths: list[int], padding: int) -> None:
    def measure(batch: Batch) -> tuple[Tensor, Tensor]:
        log_prob = batch.log_prob.requires_grad_()
        loss = LOSSES[name](log_prob, batch.old, batch.advantage, batch.returns, batch.mask, batch.tokens)
        slope = gradient(loss, log_prob)
        assert not slope[~batch.mask].any()
        return loss, slope[batch.mask]

    for narrow, wide in zip(measure(Batch(seed, lengths)), measure(Batch(seed, lengths, padding=padding)), strict=True):
        close(wide, narrow, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@few
@given(seed=seeds, lengths=st.lists(st.integers(1, 6), min_size=2, max_size=6), data=st.data())
def test_micro_batches_sum_to_the_full_batch(name: str, seed: int, lengths: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(lengths) - 1))
    batch = Batch(seed, lengths)
    log_prob = batch.log_prob.requires_grad_()
    full = LOSSES[name](*batch.rows(slice(None)), batch.tokens)
    parts = [LOSSES[name](*batch.rows(keep), batch.tokens) for keep in (slice(cut), slice(cut, None))]
    close(sum(parts), full, atol=1e-9)
    close(sum(gradient(part, log_prob) for part in parts), gradient(full, log_prob), atol=1e-9)


@few
@given(seed=seeds, lengths=sizes, padding=st.integers(1, 5), lam=st.floats(0, 1), gamma=st.floats(0.5, 1))
def test_padding_changes_no_reward_and_no_advantage(
    seed: int, lengths: list[int], padding: int, lam: float, gamma: float
) -> None:
    def measure(batch: Batch) -> list[Tensor]:
        token_kl = kl.k3(batch.log_prob, batch.old)
        shaped = advantages.shaped_rewards(token_kl, batch.scores, batch.mask, beta=0.1)
        estimated = advantages.gae(shaped, batch.advantage, batch.mask, gamma=gamma, lam=lam)
        whitened = masked.whiten(estimated.advantages, batch.mask)
        assert not whitened[~batch.mask].any()
        sums = kl.sequence_kl(batch.log_prob, batch.old, batch.mask)
        return [x[batch.mask] for x in (shaped, *estimated, whitened)] + [sums]

    for narrow, wide in zip(measure(Batch(seed, lengths)), measure(Batch(seed, lengths, padding=padding)), strict=True):
        close(wide, narrow, atol=1e-9)


@few
@given(seed=seeds, lengths=sizes)
def test_gae_limits(seed: int, lengths: list[int]) -> None:
    """lambda 1, gamma 1: A + V is the sum of future rewards. lambda 0: the one-step error."""
    batch = Batch(seed, lengths)
    reward, value, mask = batch.log_prob, batch.advantage, batch.mask
    clean = masked.zero_outside(reward, mask)
    to_come = clean.flip(1).cumsum(1).flip(1)
    close(advantages.gae(reward, value, mask, gamma=1.0, lam=1.0).returns[mask], to_come[mask], atol=1e-9)
    following = torch.cat([masked.zero_outside(value, mask)[:, 1:], torch.zeros(len(lengths), 1).double()], dim=1)
    one_step = reward + following - value
    close(advantages.gae(reward, value, mask, gamma=1.0, lam=0.0).advantages[mask], one_step[mask], atol=1e-9)


@few
@given(seed=seeds, lengths=sizes)
def test_packed_tokens_give_the_padded_loss(seed: int, lengths: list[int]) -> None:
    """The losses take packed (M,) tokens as well as padded (B, T) ones."""
    batch = Batch(seed, lengths)
    flat = [x[batch.mask] for x in (batch.log_prob, batch.old, batch.advantage)]
    packed = ppo.policy_loss(*flat, torch.ones(batch.tokens).bool(), denominator=batch.tokens)
    padded = ppo.policy_loss(batch.log_prob, batch.old, batch.advantage, batch.mask, denominator=batch.tokens)
    for a, b in zip(packed, padded, strict=True):
        close(a, b, atol=1e-9)


def _judged(seed: int, count: int) -> tuple[Tensor, pairs.Pairs]:
    """Scores of 5 responses and `count` random soft judgments of them."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(5, (count,), generator=generator)
    second = (first + torch.randint(1, 5, (count,), generator=generator)) % 5
    label, margin, weight = torch.rand(3, count, generator=generator, dtype=torch.float64)
    scores = torch.randn(5, generator=generator, dtype=torch.float64).requires_grad_()
    return scores, pairs.Pairs(first, second, label, margin, weight + 0.1)


@few
@given(seed=seeds, count=st.integers(1, 8))
def test_swapping_sides_changes_no_pair_loss(seed: int, count: int) -> None:
    scores, judged = _judged(seed, count)
    turned = pairs.swap(judged)
    close(rewards.bradley_terry(scores, turned), rewards.bradley_terry(scores, judged), atol=1e-9)
    close(torch.stack(pairs.accuracy(scores, turned)), torch.stack(pairs.accuracy(scores, judged)), atol=1e-9)
    outcomes = judged._replace(label=(2 * judged.label).round() / 2, margin=torch.zeros_like(judged.margin))
    parameter = f64(0.3)
    for loss, name in ((rewards.davidson, "log_nu"), (rewards.rao_kupper, "log_excess")):
        there, back = (loss(scores, p, **{name: parameter}) for p in (outcomes, pairs.swap(outcomes)))
        close(there, back, atol=1e-9)


@few
@given(seed=seeds, count=st.integers(2, 8), data=st.data())
def test_micro_batches_of_pairs_sum_to_the_full_batch(seed: int, count: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, count - 1))
    scores, judged = _judged(seed, count)
    total = float(judged.weight.sum())

    def loss(part: pairs.Pairs) -> Tensor:
        return pairs.weighted_mean(rewards.bradley_terry(scores, part), part, denominator=total)

    parts = [pairs.Pairs(*(x[keep] for x in judged)) for keep in (slice(cut), slice(cut, None))]
    full = loss(judged)
    close(sum(loss(part) for part in parts), full, atol=1e-9)
    close(sum(gradient(loss(part), scores) for part in parts), gradient(full, scores), atol=1e-9)
    close(gradient(full, scores).sum(), 0.0, atol=1e-9)


@few
@given(seed=seeds, size=st.integers(2, 6), shift=st.floats(-50, 50), data=st.data())
def test_rankings_ignore_a_constant_padding_and_order(seed: int, size: int, shift: float, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(size, generator=generator, dtype=torch.float64)
    ranks = torch.tensor([data.draw(st.lists(st.integers(1, size), min_size=size, max_size=size))])
    index, mask = torch.arange(size).unsqueeze(0), torch.ones(1, size).bool()

    def losses(scores: Tensor, index: Tensor, ranks: Tensor, mask: Tensor) -> Tensor:
        judged = pairs.ranking_pairs(index, ranks, mask, dtype=torch.float64)
        assert len(judged.first) == comb(size, 2)
        close(judged.weight.sum(), 1.0, atol=1e-9)
        pairwise = pairs.weighted_mean(rewards.bradley_terry(scores, judged), judged, denominator=1)
        return torch.stack([pairwise, rewards.plackett_luce(scores, index, ranks, mask).sum()])

    expected = losses(scores, index, ranks, mask)
    close(losses(scores + shift, index, ranks, mask), expected, atol=1e-9)
    order = torch.tensor(data.draw(st.permutations(range(size))))
    close(losses(scores, index[:, order], ranks[:, order], mask), expected, atol=1e-9)
    pad = torch.full((1, 2), 999), torch.tensor([[0, 999]]), torch.zeros(1, 2).bool()
    wide = [torch.cat([a, b], dim=1) for a, b in zip((index, ranks, mask), pad, strict=True)]
    close(losses(scores, *wide), expected, atol=1e-9)


@few
@given(seed=seeds, size=st.integers(2, 5))
def test_padded_plackett_luce_has_a_finite_gradient(seed: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()
    index = torch.cat([torch.arange(size), torch.tensor([10**6])]).unsqueeze(0)
    mask = index < size
    loss = rewards.plackett_luce(scores, index, index, mask).sum()
    slope = gradient(loss, scores)
    assert torch.isfinite(slope).all()
    close(slope.sum(), 0.0, atol=1e-9)
