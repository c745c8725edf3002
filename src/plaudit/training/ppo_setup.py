"""What a PPO run is made of, loaded and checked before anything trains."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch

from plaudit.core.errors import DataError
from plaudit.core.progress import say
from plaudit.core.records import Prompt, TokenGroup
from plaudit.core.seeding import derive
from plaudit.datasets.fit import fit_groups
from plaudit.datasets.read import read_demonstrations, read_prompts
from plaudit.datasets.render import Renderer
from plaudit.datasets.splits import check_leaks, split_by_prompt
from plaudit.models.load import hash_model, load_policy
from plaudit.models.policy import Policy, ScalarModel, value_from_policy
from plaudit.models.precision import Precision
from plaudit.rollouts.scoring import Combine, Scorer, load_scorer, scorer_hash
from plaudit.training.judging import HeldOut
from plaudit.training.optimizer import Optimizer, ParameterGroup
from plaudit.training.ppo_config import PPOConfig
from plaudit.training.ppo_reward import TextReward, TrainingReward, TrunkReward, load_training_reward
from plaudit.training.ppo_update import Learner
from plaudit.training.start import describe_model


@dataclass(frozen=True)
class Data:
    """Prompts and demonstrations as read, before any model is there to tokenise them."""

    prompts: list[Prompt]
    eval_prompts: list[Prompt]
    demonstrations: list[tuple[Prompt, str]]
    inputs: dict[str, str]


@dataclass(frozen=True)
class Task:
    """Prompts to train on with their token ids, held-out prompts, and demonstrations for PTX."""

    prompts: list[Prompt]
    ids: list[tuple[int, ...]]
    held_out: HeldOut
    demonstrations: list[TokenGroup]
    counts: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Cast:
    """The models of a run: what trains, what it is held near to, what rewards it and what judges it."""

    learner: Learner
    reference: Policy
    reward: TrainingReward
    judge: Scorer | None
    renderer: Renderer
    value_start: str


def read_data(config: PPOConfig) -> Data:
    """Prompts, split into train and held out by prompt, with the content hash of everything the run starts from.

    Raises:
        DataError: a file is unreadable, or a prompt to judge on is also one to train on.
    """
    rows = read_prompts(config.prompts)
    inputs = rows.inputs("prompts")
    if config.eval_prompts is None:
        split = split_by_prompt(rows.rows, held_out=config.held_out, seed=config.seed)
        train, held_out = split.train, split.held_out
    else:
        judged = read_prompts(config.eval_prompts)
        inputs |= judged.inputs("eval_prompts")
        train, held_out = rows.rows, judged.rows
        check_leaks(train, held_out)
    demonstrations: list[tuple[Prompt, str]] = []
    if config.ptx.data is not None:
        read = read_demonstrations(config.ptx.data)
        inputs |= read.inputs("ptx")
        demonstrations = [(row.prompt, row.response) for row in read.rows]
    inputs["policy"] = hash_model(config.policy)
    inputs |= {f"reward {number}": _hash(spec) for number, spec in enumerate(config.reward_specs, start=1)}
    if config.judge != "none":
        inputs["judge"] = _hash(config.judge)
    return Data([row.prompt for row in train], [row.prompt for row in held_out], demonstrations, inputs)


def load_cast(config: PPOConfig, precision: Precision) -> Cast:
    """Load policy, reference, reward, judge and value branch.

    The value branch starts with the reward model's layers where that shares the policy's trunk (Ouyang et al. 2022),
    otherwise with the policy's (Ziegler et al. 2019). Its head starts at zero, or as the reward model's (`value_head`).
    """
    policy = load_policy(
        config.policy,
        precision=precision,
        train_layers=config.train_layers,
        lora=config.lora,
        seed=derive(config.seed, "adapters"),
    )
    renderer = Renderer(policy.tokenizer, template=config.template, system=config.system)
    combine = Combine(config.ensemble.mode, config.ensemble.penalty)
    reward = load_training_reward(
        config.reward_specs, policy, renderer, combine=combine, micro_tokens=config.micro_tokens
    )
    judge = None
    if config.judge != "none":
        judge = load_scorer(config.judge, precision=precision.name, max_batch_tokens=config.micro_tokens)
    value, value_start = _value(policy, reward, config)
    policy_optimizer = Optimizer([ParameterGroup(policy.trainable(), config.lr)], clip=config.grad_clip, eps=1e-5)
    value_optimizer = Optimizer(
        [ParameterGroup(value.trainable(), config.value_lr or config.lr)], clip=config.grad_clip, eps=1e-5
    )
    learner = Learner(policy, value, policy_optimizer, value_optimizer)
    return Cast(learner, policy.frozen_copy(), reward, judge, renderer, value_start)


def make_task(config: PPOConfig, data: Data, cast: Cast) -> Task:
    """Tokenise; prompts that leave no room for an answer are left out, counted and said.

    Raises:
        DataError: too many prompts are too long, or none is left to train or to judge on.
    """
    counts: dict[str, dict[str, int]] = {}
    prompts, ids = _fitting(config, data.prompts, cast, "prompts", counts)
    judged, judged_ids = _fitting(config, data.eval_prompts[: config.eval_limit], cast, "held-out prompts", counts)
    if len(judged) < 2:
        raise DataError(
            f"{len(judged)} held-out prompts: an interval needs two or more. Raise held_out, or give eval_prompts=."
        )
    sampling = config.sampling.model_copy(update={"n": config.eval_samples})
    held_out = HeldOut(tuple(judged), tuple(judged_ids), sampling, config.seed)
    groups = [cast.renderer.group(prompt, [response]) for prompt, response in data.demonstrations]
    if groups:
        fitted = fit_groups(groups, _context(cast.learner.policy), key="the model's context")
        groups = fitted.kept
        counts["demonstrations"] = {"kept": len(groups), "dropped": fitted.dropped}
    return Task(prompts, ids, held_out, groups, counts)


def describe(config: PPOConfig, cast: Cast, task: Task) -> dict[str, str]:
    """What is about to happen, in a few lines."""
    shared = "on the policy's trunk" if isinstance(cast.reward, TrunkReward) else "on texts"
    held_out = f"{len(task.held_out.prompts)} held-out prompts"
    return {
        "policy": describe_model(cast.learner.policy),
        "reward": f"{cast.reward.name}, {shared}",
        "value": f"starts as {cast.value_start}",
        "judge": f"{cast.judge.name}, on {held_out}" if cast.judge else f"none; {held_out} are answered all the same",
        "kl": _describe_kl(config),
        "prompts": f"{len(task.prompts)}",
        "plan": f"{config.iterations} iterations: {config.prompts_per_iteration} prompts x {config.sampling.n}, "
        f"{config.epochs} passes of {config.minibatches} steps over the answers",
    }


def _describe_kl(config: PPOConfig) -> str:
    kl = config.kl
    text = f"{kl.estimator} in the {kl.placement}, coefficient {kl.coef:g}"
    if kl.adaptive:
        text += f", steered towards {kl.target:g} nats a sequence"
    if kl.placement == "loss":
        text += "; as a loss it ignores how the policy changes the prefixes it will meet"
        text += " and pulls by the forward KL, which is another optimum" if kl.estimator == "k3" else ""
    elif kl.estimator != "k1":
        text += f"; only k1 in the reward has the gradient of the KL, {kl.estimator} there is another penalty"
    return text


def _value(policy: Policy, reward: TrunkReward | TextReward, config: PPOConfig) -> tuple[ScalarModel, str]:
    if isinstance(reward, TrunkReward):
        value = reward.members[0].trainable_copy()
        if config.value_head == "zero":
            return value.with_head(torch.zeros_like(value.head)), f"the reward model {reward.name}, with a zero head"
        return value, f"the reward model {reward.name}"
    return value_from_policy(policy), "the policy, with a zero head"


def _fitting(
    config: PPOConfig, prompts: list[Prompt], cast: Cast, what: str, counts: dict[str, dict[str, int]]
) -> tuple[list[Prompt], list[tuple[int, ...]]]:
    longest_answer = ((0,) * config.sampling.max_new_tokens,)
    groups = [TokenGroup(cast.renderer.prompt_ids(prompt), longest_answer) for prompt in prompts]
    fitted = fit_groups(groups, _context(cast.learner.policy), key="the model's context (prompt and max_new_tokens)")
    counts[what] = {"kept": len(fitted.kept), "dropped": fitted.dropped}
    if fitted.dropped:
        say(f"{fitted.dropped} {what} left out: too long for the model's context with max_new_tokens after them.")
    return [prompts[i] for i in fitted.indices], [group.prompt for group in fitted.kept]


def _context(policy: Policy) -> int:
    """Tokens the model's positions reach; without a limit of its own, no limit."""
    return getattr(policy.origin.config, "max_position_embeddings", sys.maxsize)


def _hash(spec: str) -> str:
    """Content hash of a scorer: of a function's file or a model's folder; a module has its name alone."""
    return scorer_hash(spec) or (spec if ":" in spec else hash_model(spec))
