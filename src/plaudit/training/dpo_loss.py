"""From judged prompts to the loss of direct preference optimisation, its gradient and its held-out figures."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from plaudit.algorithms.dpo import PreferenceLoss, cdpo, dpo, ipo, ipo_per_token, robust_dpo
from plaudit.algorithms.pairs import Pairs, smooth, strict_accuracy, weighted_mean
from plaudit.core.progress import Progress
from plaudit.datasets.judgments import JudgedPrompt
from plaudit.models.packing import Packed
from plaudit.models.policy import Policy
from plaudit.training.dpo_config import DPOConfig
from plaudit.training.estimates import Estimate, mean_over_prompts, share_over_prompts
from plaudit.training.loop import micro_batches
from plaudit.training.trunk_cache import TrunkCache


class Side(NamedTuple):
    """Judged prompts, their trunk states, and the reference's summed log-prob of each text, (S,) a prompt."""

    prompts: list[JudgedPrompt]
    states: TrunkCache
    reference: list[Tensor]


def strict_pairs(prompts: Sequence[JudgedPrompt]) -> Pairs:
    """The pairs with a preference, better text first, on texts numbered one prompt after the other.

    The pairs of a ranking share its weight: 1 / C(K, 2) each, ties included in the count.
    """
    rows: list[tuple[int, int, float, float, float]] = []
    start = 0
    for one in prompts:
        for judgment, pair in one.pairs():
            if pair.label != 0.5:
                K = len(judgment.items)
                weight = judgment.weight * 2 / (K * (K - 1))
                rows.append((start + pair.first, start + pair.second, pair.label, pair.margin, weight))
        start += len(one.texts)
    first, second = (torch.tensor([row[i] for row in rows], dtype=torch.long) for i in (0, 1))
    return Pairs(first, second, *(torch.tensor([row[i] for row in rows], dtype=torch.float32) for i in (2, 3, 4)))


def summed_log_probs(policy: Policy, packed: Packed, states: Tensor) -> Tensor:
    """(S,) log-prob of each response: the sum over its tokens, end of turn included."""
    log_prob = policy.log_probs(packed, states).log_prob
    return torch.zeros(len(packed.lengths)).index_add(0, packed.sequence, log_prob)


@torch.no_grad()
def reference_log_probs(policy: Policy, cache: TrunkCache) -> list[Tensor]:
    """Summed log-probs of every group's responses, (K,) each, by the policy as it is now."""
    found: list[Tensor | None] = [None] * len(cache.groups)
    with Progress("reference log-probs (prompts)", len(found)) as progress:
        for numbers, packed, states in cache.batches():
            sums = summed_log_probs(policy, packed, states)
            sizes = [len(cache.groups[number].responses) for number in numbers]
            for number, part in zip(numbers, sums.split(sizes), strict=True):
                found[number] = part.clone()
            progress.advance(len(numbers))
    return [part for part in found if part is not None]


def split_by_group(flat: Tensor, cache: TrunkCache) -> list[Tensor]:
    """(S,) values of all texts to one tensor a group."""
    return [part.clone() for part in flat.split([len(group.responses) for group in cache.groups])]


def preference_loss(
    config: DPOConfig, log_prob: Tensor, reference: Tensor, lengths: Tensor, pairs: Pairs
) -> PreferenceLoss:
    """The loss the settings ask for, on summed log-probs (S,) and lengths (S,) in tokens."""
    beta, rate = config.beta, config.label_smoothing
    match config.loss:
        case "sigmoid":
            return (
                dpo(log_prob, reference, pairs, beta=beta)
                if rate == 0
                else cdpo(log_prob, reference, pairs, beta=beta, flip_rate=rate)
            )
        case "robust":
            return robust_dpo(log_prob, reference, pairs, beta=beta, flip_rate=rate)
        case "ipo":
            return ipo_per_token(log_prob, reference, lengths, smooth(pairs, rate=rate), tau=beta)
        case "ipo_sum":
            return ipo(log_prob, reference, smooth(pairs, rate=rate), tau=beta)


def accumulate_gradient(policy: Policy, side: Side, batch: Sequence[int], config: DPOConfig) -> dict[str, float]:
    """Add the gradient of a batch of prompts; returns its figures.

    Figures are weighted means over the batch's pairs. Log-probs and rewards are sums over a response's tokens (means
    for loss=ipo). `chosen_log_prob` often falls while the margin grows: the policy makes both answers less likely.
    """
    total = float(strict_pairs([side.prompts[i] for i in batch]).weight.sum())
    sums: dict[str, float] = {}
    for places, packed in micro_batches([side.states.groups[i] for i in batch], max_tokens=config.micro_tokens):
        numbers = [batch[place] for place in places]
        pairs = strict_pairs([side.prompts[i] for i in numbers])
        log_prob = summed_log_probs(policy, packed, side.states.states(numbers, packed))
        reference = torch.cat([side.reference[i] for i in numbers])
        result = preference_loss(config, log_prob, reference, packed.lengths, pairs)
        loss = weighted_mean(result.losses, pairs, denominator=total)
        part = {"loss": loss, **figures(result, pairs, total)}
        if config.sft:
            part["sft_loss"] = weighted_mean(-(log_prob / packed.lengths)[pairs.first], pairs, denominator=total)
            loss = loss + config.sft * part["sft_loss"]
        loss.backward()
        for name, value in part.items():
            sums[name] = sums.get(name, 0.0) + value.item()
    return sums


def figures(result: PreferenceLoss, pairs: Pairs, total: float) -> dict[str, Tensor]:
    """The part of the pairs at hand in weighted means over pairs of weight `total`."""

    def mean(values: Tensor) -> Tensor:
        return weighted_mean(values, pairs, denominator=total)

    return {
        "accuracy": result.accuracy.correct / total,
        "margin": mean(result.margins),
        "chosen_reward": mean(result.rewards[pairs.first]),
        "rejected_reward": mean(result.rewards[pairs.second]),
        "chosen_log_prob": mean(result.first_log_prob),
        "rejected_log_prob": mean(result.second_log_prob),
    }


class HeldOut(NamedTuple):
    """What the implicit reward is worth on judgments that were not trained on: weighted means over pairs."""

    accuracy: Estimate
    margin: Estimate

    def named(self) -> dict[str, float | None]:
        """For `metrics.jsonl`."""
        return self.accuracy.named("held_out_accuracy") | self.margin.named("held_out_margin")


@torch.no_grad()
def measure_held_out(policy: Policy, side: Side, config: DPOConfig) -> HeldOut:
    """Accuracy (equal rewards are wrong) and margin of the implicit reward, with intervals over prompts."""
    correct = dict.fromkeys((one.key for one in side.prompts), 0.0)
    margin, weight = correct.copy(), correct.copy()
    for numbers, packed, states in side.states.batches():
        log_prob = summed_log_probs(policy, packed, states)
        sizes = [len(side.prompts[number].texts) for number in numbers]
        for number, own, lengths in zip(numbers, log_prob.split(sizes), packed.lengths.split(sizes), strict=True):
            one = side.prompts[number]
            pairs = strict_pairs([one])
            result = preference_loss(config, own, side.reference[number], lengths, pairs)
            found = strict_accuracy(result.rewards, pairs)
            correct[one.key] += float(found.correct)
            weight[one.key] += float(found.weight)
            margin[one.key] += float((pairs.weight * result.margins).sum())
    weights = list(weight.values())
    return HeldOut(
        accuracy=share_over_prompts(list(correct.values()), weights),
        margin=mean_over_prompts(list(margin.values()), weights),
    )
