"""Held-out prompts, answered while a policy trains and judged by something other than its reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from plaudit.algorithms import kl
from plaudit.core.records import Prompt, prompt_key
from plaudit.core.seeding import derive
from plaudit.datasets.render import Renderer
from plaudit.models.packing import batches, pack
from plaudit.models.policy import Policy
from plaudit.rollouts.engine import Sampling, sample
from plaudit.rollouts.scoring import Scorer
from plaudit.training.estimates import Estimate, mean_over_prompts
from plaudit.training.ppo_reward import Answered, TrainingReward, kept_states

PerPrompt = list[float | None]


class HeldOut(NamedTuple):
    """Prompts that training never sees, and how they are answered: with the same seeds every time."""

    prompts: tuple[Prompt, ...]
    ids: tuple[tuple[int, ...], ...]
    sampling: Sampling
    seed: int


class Verdict(NamedTuple):
    """One policy on the held-out prompts. `judge` and `reward`: mean over a prompt's answers, None if unscored."""

    judge: PerPrompt
    reward: PerPrompt
    kl: float
    """Sequence KL from the reference in nats, mean over answers (k1)."""
    kl_k3: float
    response_length: float
    clipped_length: float
    unscored: int
    """Answers without a judgment."""
    records: list[dict[str, Any]]


def judge_policy(
    policy: Policy,
    reference: Policy,
    held_out: HeldOut,
    *,
    judge: Scorer | None,
    reward: TrainingReward,
    renderer: Renderer,
    micro_tokens: int,
) -> Verdict:
    """Answer the held-out prompts and have the answers judged."""
    seeds = [derive(held_out.seed, "held out", prompt_key(prompt)) for prompt in held_out.prompts]
    rollouts = sample(policy, held_out.ids, held_out.sampling, end_ids=renderer.end_ids, seeds=seeds, keep_states=True)
    answered = [Answered(prompt, tuple(row)) for prompt, row in zip(held_out.prompts, rollouts, strict=True)]
    texts = [[renderer.decode(rollout.response) for rollout in one.rollouts] for one in answered]
    grades = reward.grade(answered)
    flat_prompts = [one.prompt for one in answered for _ in one.rollouts]
    flat = judge.score(flat_prompts, [t for row in texts for t in row]) if judge else [None] * len(flat_prompts)
    scores = iter(flat)
    judged = [[next(scores) for _ in one.rollouts] for one in answered]
    k1, k3 = _sequence_kl(policy, reference, answered, held_out.sampling.temperature, micro_tokens)
    every = [rollout for one in answered for rollout in one.rollouts]
    records = [
        {
            "kind": "held out",
            "prompt": [{"role": m.role, "content": m.content} for m in one.prompt],
            "response": text,
            "judge": verdict,
            "reward": grade.score,
            "spread": grade.spread,
            "stopped": rollout.stopped,
        }
        for one, row, row_judged, row_grades in zip(answered, texts, judged, grades, strict=True)
        for text, verdict, grade, rollout in zip(row, row_judged, row_grades, one.rollouts, strict=True)
    ]
    return Verdict(
        judge=[_mean_of_known(row) for row in judged],
        reward=[_mean_of_known([grade.score for grade in row]) for row in grades],
        kl=k1,
        kl_k3=k3,
        response_length=sum(len(rollout.response) for rollout in every) / len(every),
        clipped_length=sum(not rollout.stopped for rollout in every) / len(every),
        unscored=sum(score is None for score in flat) if judge else 0,
        records=records,
    )


def estimate(values: PerPrompt) -> Estimate | None:
    """Mean over the scored prompts with its interval, one prompt being one observation; None if none is scored."""
    known = [value for value in values if value is not None]
    return mean_over_prompts(known, [1] * len(known)) if known else None


def paired(new: PerPrompt, old: PerPrompt) -> PerPrompt:
    """Differences prompt by prompt, None where either is unscored: the interval of a difference needs the pairs."""
    return [None if a is None or b is None else a - b for a, b in zip(new, old, strict=True)]


@torch.no_grad()
def _sequence_kl(
    policy: Policy, reference: Policy, answered: Sequence[Answered], temperature: float, micro_tokens: int
) -> tuple[float, float]:
    groups = [one.group for one in answered]
    k1_sum = k3_sum = 0.0
    for indices in batches(groups, max_tokens=micro_tokens):
        packed = pack([groups[i] for i in indices])
        states = kept_states(policy, packed, [answered[i] for i in indices])
        own = policy.log_probs(packed, states, temperature=temperature).log_prob
        ref = reference.log_probs(packed, states, temperature=temperature).log_prob
        k1_sum += float(kl.k1(own, ref).double().sum())
        k3_sum += float(kl.k3(own, ref).double().sum())
    count = sum(len(group.responses) for group in groups)
    return k1_sum / count, k3_sum / count


def _mean_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
