"""The training reward: one number an answer, from kept trunk states where that is possible, from text otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from plaudit.algorithms import ensemble
from plaudit.core.records import Prompt, TokenGroup
from plaudit.datasets.render import Renderer
from plaudit.models.packing import Packed, batches, pack
from plaudit.models.policy import Policy, ScalarModel
from plaudit.rollouts.engine import Rollout
from plaudit.rollouts.scoring import Combine, EnsembleScorer, RewardModelScorer, Scorer, load_scorer


class Answered(NamedTuple):
    """A prompt and the answers sampled for it."""

    prompt: Prompt
    rollouts: tuple[Rollout, ...]

    @property
    def group(self) -> TokenGroup:
        return TokenGroup(self.rollouts[0].prompt, tuple(rollout.response for rollout in self.rollouts))


class Grade(NamedTuple):
    """An answer's score, None where the reward has no opinion, and the spread of an ensemble's members."""

    score: float | None
    spread: float | None = None


class TrainingReward(Protocol):
    """What PPO optimises."""

    @property
    def name(self) -> str:
        """For messages and the summary."""
        ...

    def grade(self, answered: Sequence[Answered]) -> list[list[Grade]]:
        """One grade an answer, in the shape of `answered`."""
        ...


@dataclass(frozen=True)
class TrunkReward:
    """Reward models on the policy's own trunk: only their branches run, on the states kept while sampling."""

    name: str
    policy: Policy
    members: tuple[ScalarModel, ...]
    combine: Combine
    micro_tokens: int

    @torch.no_grad()
    def grade(self, answered: Sequence[Answered]) -> list[list[Grade]]:
        """As `TrainingReward`; never unscored."""
        groups = [one.group for one in answered]
        grades: list[list[Grade]] = [[] for _ in answered]
        for indices in batches(groups, max_tokens=self.micro_tokens):
            packed = pack([groups[i] for i in indices])
            states = kept_states(self.policy, packed, [answered[i] for i in indices])
            table = torch.stack([member.scores(packed, states) for member in self.members]).double()
            combined = self.combine(table).tolist()
            spread = ensemble.spread(table).tolist() if len(self.members) > 1 else [None] * len(combined)
            for place, score, apart in zip(packed.group.tolist(), combined, spread, strict=True):
                grades[indices[place]].append(Grade(score, apart))
        return grades


@dataclass(frozen=True)
class TextReward:
    """Any scorer of texts: a Python function, or a reward model with a tokenizer or a trunk of its own."""

    scorer: Scorer
    renderer: Renderer

    @property
    def name(self) -> str:
        """The scorer's name."""
        return self.scorer.name

    def grade(self, answered: Sequence[Answered]) -> list[list[Grade]]:
        """As `TrainingReward`."""
        prompts = [one.prompt for one in answered for _ in one.rollouts]
        texts = [self.renderer.decode(rollout.response) for one in answered for rollout in one.rollouts]
        if isinstance(self.scorer, EnsembleScorer):
            found = self.scorer.score_members(prompts, texts)
            grades = [Grade(score, spread) for score, spread in zip(found.scores, found.spread, strict=True)]
        else:
            grades = [Grade(score) for score in self.scorer.score(prompts, texts)]
        flat = iter(grades)
        return [[next(flat) for _ in one.rollouts] for one in answered]


def load_training_reward(
    specs: Sequence[str], policy: Policy, renderer: Renderer, *, combine: Combine, micro_tokens: int
) -> TrunkReward | TextReward:
    """The reward a setting names, on the policy's trunk when every member is a model that shares it."""
    depth = policy.trunk.depth
    layers = len(policy.branch.model.layers)
    scorer = load_scorer(
        specs,
        precision=policy.precision.name,
        train_layers=layers if depth else "all",
        combine=combine,
        max_batch_tokens=micro_tokens,
    )
    scorers = scorer.scorers if isinstance(scorer, EnsembleScorer) else (scorer,)
    models = [one.model for one in scorers if isinstance(one, RewardModelScorer)]
    if len(models) == len(scorers) and all(model.shares_trunk(policy) for model in models):
        members = tuple(model.on_trunk_of(policy) for model in models)
        return TrunkReward(scorer.name, policy, members, combine, micro_tokens)
    return TextReward(scorer, renderer)


def kept_states(policy: Policy, packed: Packed, answered: Sequence[Answered]) -> Tensor:
    """The (N, H) trunk states of a packed row, as kept while sampling; token ids when all layers train."""
    if policy.trunk.depth == 0:
        return policy.states(packed)
    parts: list[Tensor] = []
    for one in answered:
        prompt_states = one.rollouts[0].prompt_states
        response_states = [rollout.response_states for rollout in one.rollouts]
        assert prompt_states is not None, "sample with keep_states=True"
        parts.append(prompt_states)
        for states in response_states:
            assert states is not None, "sample with keep_states=True"
            parts.append(states)
    return torch.cat(parts)
