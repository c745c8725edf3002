"""The PPO update: epochs, minibatches and micro-batches over one iteration's experience."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from plaudit.algorithms.masked import token_mean
from plaudit.algorithms.ppo import PolicyLoss, ValueLoss, kl_loss, policy_loss, value_loss
from plaudit.core.records import TokenGroup
from plaudit.core.seeding import derive
from plaudit.models.policy import Policy, ScalarModel
from plaudit.training.loop import Plan, micro_batches
from plaudit.training.optimizer import Optimizer
from plaudit.training.ppo_config import PPOConfig
from plaudit.training.ppo_experience import Experience, Live, Micro, Targets


class Learner(NamedTuple):
    """What trains: the policy and the value branch, each with an optimizer of its own."""

    policy: Policy
    value: ScalarModel
    policy_optimizer: Optimizer
    value_optimizer: Optimizer


class Update(NamedTuple):
    """Figures of one iteration's update: means over its optimizer steps, `ratio_max` the largest."""

    first_approx_kl: float
    """approx_kl of the first step, before any weight has moved: 0, or trainer and experience disagree."""
    passes: int
    stopped_early: bool
    policy_loss: float
    value_loss: float
    approx_kl: float
    clip_fraction: float
    value_clip_fraction: float
    ratio_mean: float
    ratio_max: float
    ptx_loss: float
    policy_norm: float
    value_norm: float


class _Step(NamedTuple):
    """Sums over the micro-batches of one optimizer step; all () tensors but the norms."""

    policy: PolicyLoss
    value: ValueLoss
    ptx_loss: float
    policy_norm: float
    value_norm: float


def update(
    learner: Learner,
    experience: Experience,
    targets: Targets,
    config: PPOConfig,
    *,
    kl_coef: float,
    lr_multiplier: float,
    iteration: int,
    demonstrations: Sequence[TokenGroup] = (),
) -> Update:
    """`epochs` passes over the minibatches, in an order drawn from (seed, iteration, pass)."""
    steps: list[_Step] = []
    stopped_early = False
    passes = 0
    while passes < config.epochs and not stopped_early:
        order = minibatch_order(len(experience.minibatches), seed=config.seed, iteration=iteration, passes=passes)
        for number in order:
            micros = experience.minibatches[number]
            taken = (iteration * config.epochs + passes) * len(order) + number
            ptx = _ptx_batch(demonstrations, config, taken)
            live = None if steps else experience.live
            assert live is None or live.minibatch == number, "measured for another first minibatch"
            # The branches share no weight. One after the other, only one of them has a graph and gradients in memory
            policy_part = accumulate_policy(
                learner.policy, micros, experience, targets, config, kl_coef=kl_coef, live=live
            )
            ptx_loss = _accumulate_ptx(learner.policy, ptx, config)
            policy_norm = learner.policy_optimizer.step(lr_multiplier)
            value_part = accumulate_value(learner.value, micros, experience, targets, config)
            value_norm = learner.value_optimizer.step(lr_multiplier)
            steps.append(_Step(policy_part, value_part, ptx_loss, policy_norm, value_norm))
        passes += 1
        last = steps[-len(order) :]
        stopped_early = (
            config.target_kl is not None and _mean([float(s.policy.approx_kl) for s in last]) > config.target_kl
        )
    return Update(
        first_approx_kl=float(steps[0].policy.approx_kl),
        passes=passes,
        stopped_early=stopped_early and passes < config.epochs,
        policy_loss=_mean([float(s.policy.loss) for s in steps]),
        value_loss=_mean([float(s.value.loss) for s in steps]),
        approx_kl=_mean([float(s.policy.approx_kl) for s in steps]),
        clip_fraction=_mean([float(s.policy.clip_fraction) for s in steps]),
        value_clip_fraction=_mean([float(s.value.clip_fraction) for s in steps]),
        ratio_mean=_mean([float(s.policy.ratio_mean) for s in steps]),
        ratio_max=max(float(s.policy.ratio_max) for s in steps),
        ptx_loss=_mean([s.ptx_loss for s in steps]),
        policy_norm=_mean([s.policy_norm for s in steps]),
        value_norm=_mean([s.value_norm for s in steps]),
    )


def minibatch_order(count: int, *, seed: int, iteration: int, passes: int) -> list[int]:
    """In which order the minibatches of an iteration train in a pass; both are counted from 0."""
    generator = torch.Generator().manual_seed(derive(seed, "minibatches", iteration, passes))
    return torch.randperm(count, generator=generator).tolist()


def warm_up_value(learner: Learner, experience: Experience, targets: Targets, config: PPOConfig) -> None:
    """Fit the value branch to the returns, `value_warmup` passes, before the policy moves for the first time.

    Meant for `value_head=reward`. A reward model scores finished answers; of a state in the middle of one it says
    something, but not its value. Its errors there are larger than what separates good answers from bad ones, and the
    first advantages would be noise.
    """
    for _ in range(config.value_warmup):
        for micros in experience.minibatches:
            tokens = _response_tokens(micros)
            for micro in micros:
                values = micro.packed.unpack(learner.value.values(micro.packed, micro.states))
                errors = (values - micro.cut(targets.returns)).square()
                (0.5 * token_mean(errors, micro.packed.mask, denominator=tokens)).backward()
            learner.value_optimizer.step(1.0)


def accumulate_policy(
    policy: Policy,
    micros: Sequence[Micro],
    experience: Experience,
    targets: Targets,
    config: PPOConfig,
    *,
    kl_coef: float,
    live: Live | None = None,
) -> PolicyLoss:
    """Add the gradients of one minibatch's policy loss. How it is split into micro-batches changes nothing.

    `live` holds the forward pass of the first micro-batch, where no weight has moved since. Every loss is divided by
    the response tokens of the whole minibatch.
    """
    tokens = _response_tokens(micros)
    parts: list[PolicyLoss] = []
    for micro in micros:
        log_prob = _log_probs(policy, micro, config.sampling.temperature) if live is None else live.log_probs
        live = None
        part = policy_loss(
            log_prob,
            micro.cut(experience.log_probs),
            micro.cut(targets.advantages),
            micro.packed.mask,
            clip=config.clip,
            denominator=tokens,
        )
        loss = part.loss
        if config.kl.placement == "loss":
            ref = micro.cut(experience.ref_log_probs)
            loss = loss + kl_coef * kl_loss(
                log_prob, ref, micro.packed.mask, estimator=config.kl.estimator, denominator=tokens
            )
        loss.backward()
        parts.append(PolicyLoss(*(figure.detach() for figure in part)))
    largest = torch.stack([part.ratio_max for part in parts]).max()
    return PolicyLoss(*map(_total, zip(*parts, strict=True)))._replace(ratio_max=largest)


def accumulate_value(
    value: ScalarModel, micros: Sequence[Micro], experience: Experience, targets: Targets, config: PPOConfig
) -> ValueLoss:
    """Add the gradients of one minibatch's value loss, as `accumulate_policy`."""
    tokens = _response_tokens(micros)
    parts: list[ValueLoss] = []
    for micro in micros:
        part = value_loss(
            micro.packed.unpack(value.values(micro.packed, micro.states)),
            micro.cut(experience.values),
            micro.cut(targets.returns),
            micro.packed.mask,
            clip=config.value_clip,
            denominator=tokens,
        )
        (config.vf_coef * part.loss).backward()
        parts.append(ValueLoss(*(figure.detach() for figure in part)))
    return ValueLoss(*map(_total, zip(*parts, strict=True)))


def _log_probs(policy: Policy, micro: Micro, temperature: float) -> Tensor:
    return micro.packed.unpack(policy.log_probs(micro.packed, micro.states, temperature=temperature).log_prob)


def _response_tokens(micros: Sequence[Micro]) -> int:
    return sum(int(micro.packed.lengths.sum()) for micro in micros)


def _ptx_batch(demonstrations: Sequence[TokenGroup], config: PPOConfig, step: int) -> list[TokenGroup]:
    if not demonstrations:
        return []
    plan = Plan(len(demonstrations), config.ptx.rows, 1, derive(config.seed, "ptx"))
    return [demonstrations[i] for i in plan.batch(step)]


def _accumulate_ptx(policy: Policy, groups: Sequence[TokenGroup], config: PPOConfig) -> float:
    """Gradient of ptx.coef times the token-mean negative log-likelihood of demonstrations; returns that mean."""
    tokens = sum(len(response) for group in groups for response in group.responses)
    total = 0.0
    for _, packed in micro_batches(groups, max_tokens=config.micro_tokens):
        log_prob = packed.unpack(policy.log_probs(packed, policy.states(packed)).log_prob)
        loss = -token_mean(log_prob, packed.mask, denominator=tokens)
        (config.ptx.coef * loss).backward()
        total += float(loss.detach())
    return total


def _total(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).sum()


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)
