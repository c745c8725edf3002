"""Experience: the answers of one iteration with everything the PPO losses need to know about them.

Tensors of an iteration are (S, T): S answers in the order in which minibatches and micro-batches hold them, T the
longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from plaudit.algorithms import kl
from plaudit.algorithms.advantages import (
    gae,
    leave_one_out,
    penalise_unfinished,
    replace_unfinished,
    shaped_rewards,
)
from plaudit.algorithms.masked import whiten, whiten_keep_mean
from plaudit.models.packing import Packed, batches, pack
from plaudit.models.policy import Policy, ScalarModel
from plaudit.training.ppo_config import MissingEndSettings, PPOConfig
from plaudit.training.ppo_reward import Answered, Grade, kept_states


class Scored(NamedTuple):
    """Answers of which every one has a score."""

    answered: list[Answered]
    grades: list[list[Grade]]
    unscored: int


class Micro(NamedTuple):
    """What one forward and backward pass takes: a packed row, its trunk states, and its rows of the (S, T) tensors."""

    packed: Packed
    states: Tensor
    rows: slice

    def cut(self, whole: Tensor) -> Tensor:
        """(S, T) of the iteration to (s, t) of this row."""
        return whole[self.rows, : int(self.packed.lengths.max())]


class Live(NamedTuple):
    """The policy's forward pass over one micro-batch, with its graph: the first backward pass starts from it.

    Attributes:
        minibatch: the first one that trains; the micro-batch is the first one in it.
        log_probs: (s, t).
    """

    minibatch: int
    log_probs: Tensor


@dataclass(frozen=True)
class Experience:
    """The answers of one iteration, measured once before training.

    Attributes:
        minibatches: what each optimizer step takes, in micro-batches.
        places: (S,) of (prompt, answer) numbers: which answer a row is.
        mask: (S, T) True on response tokens.
        log_probs: (S, T) under the policy as it sampled, computed by the trainer in the packing it trains in.
        ref_log_probs: (S, T) under the reference.
        sampler_log_probs: (S, T) as the sampler reported them.
        entropy: (S, T) of the policy, in nats.
        values: (S, T) of the value branch.
        scores: (S,) raw rewards.
        stopped: (S,) True where the answer ended its turn.
        live: what the first optimizer step need not compute again.
    """

    minibatches: tuple[tuple[Micro, ...], ...]
    places: tuple[tuple[int, int], ...]
    mask: Tensor
    log_probs: Tensor
    ref_log_probs: Tensor
    sampler_log_probs: Tensor
    entropy: Tensor
    values: Tensor
    scores: Tensor
    stopped: Tensor
    live: Live | None = None


class Targets(NamedTuple):
    """What the losses aim at: `scores` (S,) after clipping and the missing-EOS rule, and three (S, T).

    A score baseline is in the rewards, not in `scores`.
    """

    scores: Tensor
    rewards: Tensor
    advantages: Tensor
    returns: Tensor


def drop_unscored(answered: Sequence[Answered], grades: Sequence[Sequence[Grade]]) -> Scored:
    """Leave out answers without a score, and prompts without a scored answer. A missing judgment is never a 0."""
    kept: list[Answered] = []
    kept_grades: list[list[Grade]] = []
    unscored = 0
    for one, row in zip(answered, grades, strict=True):
        known = [i for i, grade in enumerate(row) if grade.score is not None]
        unscored += len(row) - len(known)
        if known:
            kept.append(Answered(one.prompt, tuple(one.rollouts[i] for i in known)))
            kept_grades.append([row[i] for i in known])
    return Scored(kept, kept_grades, unscored)


@torch.no_grad()
def measure(
    policy: Policy,
    reference: Policy,
    value: ScalarModel,
    scored: Scored,
    *,
    minibatches: int,
    micro_tokens: int,
    temperature: float,
    seed: int,
    first: int | None = None,
) -> Experience:
    """Log-probs, reference log-probs and values of all answers, from the trunk states that sampling kept.

    The packing is decided here and kept for all epochs: another packing sums in another order, and the first ratio
    would be 1 only up to rounding. One micro-batch of the minibatch `first`, which trains first, keeps its policy
    graph: no weight moves until then, so its first forward pass is this one. More graphs, the value branch's too,
    would cost the memory of each.
    """
    steps: list[tuple[Micro, ...]] = []
    places: list[tuple[int, int]] = []
    columns: list[tuple[Tensor, ...]] = []
    live: Live | None = None
    for minibatch, members in enumerate(_minibatches(len(scored.answered), minibatches, seed)):
        groups = [scored.answered[i].group for i in members]
        micros: list[Micro] = []
        for indices in batches(groups, max_tokens=micro_tokens):
            numbers = [members[i] for i in indices]
            packed = pack([groups[i] for i in indices])
            states = kept_states(policy, packed, [scored.answered[i] for i in numbers])
            start = len(places)
            places.extend((i, j) for i in numbers for j in range(len(scored.answered[i].rollouts)))
            micros.append(Micro(packed, states, slice(start, len(places))))
            ref = reference.log_probs(packed, states, temperature=temperature)
            with torch.set_grad_enabled(minibatch == first and len(micros) == 1):
                own = policy.log_probs(packed, states, temperature=temperature)
                log_probs = packed.unpack(own.log_prob)
            if log_probs.requires_grad:
                live = Live(minibatch, log_probs)
            values = packed.unpack(value.values(packed, states))
            sampled = [scored.answered[i].rollouts[j].log_probs for i, j in places[start:]]
            flat = (packed.unpack(column) for column in (ref.log_prob, torch.cat(sampled), own.entropy))
            columns.append((packed.mask, log_probs.detach(), *flat, values))
        steps.append(tuple(micros))
    longest = max(column[0].shape[1] for column in columns)
    mask, own, ref, sampled, entropy, values = (
        torch.cat([F.pad(part, (0, longest - part.shape[1])) for part in parts]) for parts in zip(*columns, strict=True)
    )
    scores = torch.tensor([scored.grades[i][j].score for i, j in places], dtype=torch.float32)
    stopped = torch.tensor([scored.answered[i].rollouts[j].stopped for i, j in places])
    return Experience(tuple(steps), tuple(places), mask, own, ref, sampled, entropy, values, scores, stopped, live)


def aim(experience: Experience, config: PPOConfig, *, kl_coef: float, lam: float | None = None) -> Targets:
    """Shaped rewards, advantages and returns over the whole iteration, so that no batch split can change them.

    `lam` takes the place of the config's.
    """
    mask = experience.mask
    scores = experience.scores
    if config.reward_clip is not None:
        scores = scores.clamp(-config.reward_clip, config.reward_clip)
    scores = _treat_unfinished(scores, experience.stopped, config.missing_eos)
    earned = scores
    if config.score_baseline == "prompt":
        earned = leave_one_out(scores, torch.tensor([prompt for prompt, _ in experience.places]))
    token_kl = kl.ESTIMATORS[config.kl.estimator](experience.log_probs, experience.ref_log_probs)
    beta = kl_coef if config.kl.placement == "reward" else 0.0
    rewards = shaped_rewards(token_kl, earned, mask, beta=beta)
    if config.whiten_rewards:
        rewards = whiten_keep_mean(rewards, mask)
    advantages, returns = gae(
        rewards, experience.values, mask, gamma=config.gamma, lam=config.lam if lam is None else lam
    )
    if config.whiten_advantages:
        advantages = whiten(advantages, mask)
    return Targets(scores, rewards, advantages, returns)


@torch.no_grad()
def value_again(experience: Experience, value: ScalarModel) -> Experience:
    """The same experience with the values that the value branch gives now."""
    columns = [
        micro.packed.unpack(value.values(micro.packed, micro.states))
        for micros in experience.minibatches
        for micro in micros
    ]
    longest = experience.mask.shape[1]
    values = torch.cat([F.pad(column, (0, longest - column.shape[1])) for column in columns])
    return replace(experience, values=values)


def _treat_unfinished(scores: Tensor, stopped: Tensor, rule: MissingEndSettings) -> Tensor:
    if rule.mode == "subtract":
        return penalise_unfinished(scores, stopped, penalty=rule.value)
    if rule.mode == "replace":
        return replace_unfinished(scores, stopped, value=rule.value)
    return scores


def _minibatches(count: int, parts: int, seed: int) -> list[list[int]]:
    """A random partition of `range(count)` into `parts` lists whose sizes differ by at most one; none is empty."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    parts = min(parts, count)
    return [order[count * i // parts : count * (i + 1) // parts] for i in range(parts)]
