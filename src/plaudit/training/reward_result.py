"""The end of a reward run: scores of held-out texts, their zero, the model folder and the summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from plaudit.algorithms import pairs as judged_pairs
from plaudit.core.errors import DoctorError
from plaudit.core.files import atomic_folder, write_json
from plaudit.core.records import Prompt
from plaudit.datasets.judgments import ScoredPrompt
from plaudit.models.export import save_reward
from plaudit.models.normalise import spread_within, zero_mean_head
from plaudit.models.policy import ScalarModel
from plaudit.rollouts.scoring import ENSEMBLE_FILE
from plaudit.training.reward_config import RewardConfig
from plaudit.training.reward_data import Examples
from plaudit.training.reward_loss import targets
from plaudit.training.trunk_cache import TrunkCache


class Member(NamedTuple):
    """A trained member with its zero set, and its held-out scores (S,) before and after; `added` (S,) float64 is what
    setting the zero took from each: a constant, as nearly as the head's format allows."""

    model: ScalarModel
    before: Tensor
    after: Tensor
    shift: float
    added: Tensor


@torch.no_grad()
def end_states(model: ScalarModel, cache: TrunkCache) -> Tensor:
    """(S, H) final states at the end of every response, in the order of the cache's groups."""
    found: dict[int, Tensor] = {}
    for batch, packed, states in cache.batches():
        ends = model.end_states(packed, states)
        sizes = [len(cache.groups[index].responses) for index in batch]
        found |= zip(batch, ends.split(sizes), strict=True)
    return torch.cat([found[index] for index in range(len(cache.groups))])


@torch.no_grad()
def set_zero(model: ScalarModel, *, train: Tensor, zero_on: Tensor, held_out: Tensor) -> Member:
    """Shift a member's scores so that their mean over `zero_on` is 0.

    Args:
        model: the trained member.
        train: (·, H) final states; the direction of the shift is fitted on these and on `zero_on`.
        zero_on: (·, H).
        held_out: (S, H), to see what the shift does to unseen texts.

    Raises:
        DoctorError: all training texts have the same score, or a score is not a finite number.
    """
    scores = train.double() @ model.head.double()
    if not bool(torch.isfinite(scores).all()) or float(scores.std()) == 0:
        raise DoctorError(
            f"The trained model gives {len(scores)} training texts scores from {float(scores.min()):g} to "
            f"{float(scores.max()):g}: it has learnt nothing, or broke. Lower lr, or look at the data."
        )
    shifted = zero_mean_head(model.head, fit=torch.cat([train, zero_on]), zero_on=zero_on)
    return Member(
        model.with_head(shifted.head),
        held_out @ model.head,
        held_out @ shifted.head,
        shifted.shift,
        shifted.shift * (held_out.double() @ shifted.direction),
    )


def describe_zero(member: Member, held_out: Examples) -> dict[str, float]:
    """What setting the zero did: the shift, and how far it is from the same constant for all texts of a prompt."""
    owner = torch.tensor([number for number, group in enumerate(held_out.groups) for _ in group.responses])
    pairs = targets(held_out.prompts, drop_ties=True).pairs
    before, after = (judged_pairs.accuracy(scores, pairs) for scores in (member.before, member.after))
    return {
        "shift": member.shift,
        "residual": spread_within(member.added, owner),
        "accuracy_before": float(before.correct / before.weight),
        "accuracy_after": float(after.correct / after.weight),
    }


def check_moved(before: Tensor, after: Tensor, *, member: int) -> None:
    """The head must have been trained.

    Raises:
        DoctorError: it is as it was initialised.
    """
    if torch.equal(before, after):
        raise DoctorError(
            f"The reward head of member {member} did not move from its initial values in training: no gradient reached "
            "it, or lr is too small for its number format. Raise lr."
        )


def scored_prompts(held_out: Examples, members: Sequence[Member]) -> list[ScoredPrompt]:
    """The held-out prompts with the mean of the members' scores."""
    sizes = [len(group.responses) for group in held_out.groups]
    table = torch.stack([member.after for member in members]).double()
    parts = table.split(sizes, dim=1)
    several = len(members) > 1
    return [
        ScoredPrompt(one, tuple(part.mean(dim=0).tolist()), tuple(map(tuple, part.tolist())) if several else ())
        for one, part in zip(held_out.prompts, parts, strict=True)
    ]


def records(scored: Sequence[ScoredPrompt]) -> Iterator[dict[str, Any]]:
    """One JSON object a held-out prompt, for `held_out_scores.jsonl`."""
    for one in scored:
        yield {
            "prompt": messages(one.judged.prompt),
            "responses": list(one.judged.texts),
            "scores": list(one.scores),
            **({"members": [list(member) for member in one.members]} if one.members else {}),
            "judgments": [
                {
                    "items": list(judgment.items),
                    "ranks": list(judgment.ranks),
                    "labeler": judgment.labeler,
                    "weight": judgment.weight,
                    "label": judgment.label,
                    "margin": judgment.margin,
                }
                for judgment in one.judged.judgments
            ],
        }


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """A conversation as JSON."""
    return [{"role": message.role, "content": message.content} for message in prompt]


def save_members(members: Sequence[Member], folder: Path, *, pad_id: int, config: RewardConfig) -> None:
    """One model folder, or for an ensemble a folder of model folders with an index.

    Raises:
        ModelError: a saved model does not load with the scores it had; nothing is left at `folder` then.
    """
    if len(members) == 1:
        save_reward(members[0].model, folder, pad_id=pad_id)
        return
    names = [f"member-{number}" for number in range(len(members))]
    with atomic_folder(folder) as unfinished:
        for name, member in zip(names, members, strict=True):
            save_reward(member.model, unfinished / name, pad_id=pad_id)
        write_json(unfinished / ENSEMBLE_FILE, {"members": names, "train_layers": config.train_layers})
