"""Experience and update: what enters the PPO losses, and that no way of splitting a batch changes a gradient."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_task import settings, write_task
from torch import Tensor

from plaudit.algorithms import kl
from plaudit.core.records import TokenGroup, user_prompt
from plaudit.core.seeding import derive
from plaudit.datasets.render import Renderer
from plaudit.models.load import load_policy
from plaudit.models.packing import pack
from plaudit.models.policy import Policy, value_from_policy
from plaudit.models.precision import FLOAT32
from plaudit.rollouts.engine import sample
from plaudit.rollouts.sampling import Sampling
from plaudit.training.optimizer import Optimizer, ParameterGroup
from plaudit.training.ppo_config import PPOConfig
from plaudit.training.ppo_experience import Experience, Scored, aim, drop_unscored, measure, value_again
from plaudit.training.ppo_reward import Answered, Grade, kept_states
from plaudit.training.ppo_update import Learner, accumulate_policy, accumulate_value, update, warm_up_value
from tiny import make_folder

PROMPTS = [user_prompt(text) for text in ("name a fruit", "how are you today?", "say yes", "one two three", "go")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("policy") / "tiny")


@pytest.fixture
def config(tmp_path: Path, folder: Path) -> PPOConfig:
    return settings(write_task(tmp_path), folder, minibatches=1)


@pytest.fixture
def policy(folder: Path) -> Policy:
    return load_policy(folder, precision=FLOAT32, train_layers=2)


def answered(policy: Policy, n: int = 3) -> list[Answered]:
    renderer = Renderer(policy.tokenizer)
    ids = [renderer.prompt_ids(prompt) for prompt in PROMPTS]
    # a third of the vocabulary ends an answer, so that lengths differ
    end_ids = frozenset(range(0, 384, 3))
    seeds = [derive(1, i) for i in range(len(ids))]
    sampling = Sampling.model_validate({"max_new_tokens": 9, "n": n})
    rollouts = sample(policy, ids, sampling, end_ids=end_ids, seeds=seeds, keep_states=True)
    return [Answered(prompt, tuple(row)) for prompt, row in zip(PROMPTS, rollouts, strict=True)]


def scored(policy: Policy) -> Scored:
    given = answered(policy)
    grades = [[Grade(float(len(r.response) + i)) for r in one.rollouts] for i, one in enumerate(given)]
    return drop_unscored(given, grades)


def learner(policy: Policy) -> Learner:
    """A policy with a value branch whose head is not zero, so that every gradient is alive."""
    value = value_from_policy(policy)
    torch.nn.init.normal_(value.head, std=0.3, generator=torch.Generator().manual_seed(5))
    optimizers = [Optimizer([ParameterGroup(model.trainable(), 1e-2)]) for model in (policy, value)]
    return Learner(policy, value, *optimizers)


def experience(given: Learner, scored: Scored, *, micro_tokens: int = 10_000, minibatches: int = 1) -> Experience:
    return measure(
        given.policy,
        given.policy.frozen_copy(),
        given.value,
        scored,
        minibatches=minibatches,
        micro_tokens=micro_tokens,
        temperature=1.0,
        seed=7,
    )


def gradients(given: Learner, found: Experience, config: PPOConfig) -> dict[str, Tensor]:
    """Gradients of one minibatch at a policy that has moved since it sampled, so that clipping plays a part."""
    targets = aim(found, config, kl_coef=0.1)
    accumulate_policy(given.policy, found.minibatches[0], found, targets, config, kl_coef=0.1)
    accumulate_value(given.value, found.minibatches[0], found, targets, config)
    out = {}
    for role, model in (("policy", given.policy), ("value", given.value)):
        for name, parameter in model.trainable().items():
            assert parameter.grad is not None
            out[f"{role}.{name}"] = parameter.grad.clone()
            parameter.grad = None
    return out


@pytest.mark.parametrize("kl_settings", [{}, {"placement": "loss", "estimator": "k3"}])
def test_micro_batches_change_no_gradient(
    policy: Policy, tmp_path: Path, folder: Path, kl_settings: dict[str, Any]
) -> None:
    config = settings(write_task(tmp_path), folder, kl=kl_settings)
    given, samples = learner(policy), scored(policy)
    found = {tokens: experience(given, samples, micro_tokens=tokens) for tokens in (1, 60, 10_000)}
    assert [len(e.minibatches[0]) for e in found.values()] == [5, 4, 1]
    with torch.no_grad():
        for model in (given.policy, given.value):
            for i, parameter in enumerate(model.trainable().values()):
                noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
                parameter.add_(0.02 * noise)
    whole, *split = (gradients(given, found[tokens], config) for tokens in (10_000, 60, 1))
    assert max(float(g.abs().max()) for g in whole.values()) > 0.01
    for other in split:
        for name, gradient in whole.items():
            torch.testing.assert_close(other[name], gradient, atol=2e-6, rtol=1e-4)


def test_measured_numbers_are_those_of_each_answer_alone(policy: Policy) -> None:
    """Against separate rows without kept states: packing, kept trunk states and row order are all in between."""
    given, samples = learner(policy), scored(policy)
    found = experience(given, samples, micro_tokens=60, minibatches=2)
    assert sorted(found.places) == [(i, j) for i in range(5) for j in range(3)]
    for row, (i, j) in enumerate(found.places):
        rollout = samples.answered[i].rollouts[j]
        alone = pack([TokenGroup(rollout.prompt, (rollout.response,))])
        with torch.no_grad():
            states = policy.states(alone)
            log_prob = policy.log_probs(alone, states).log_prob
            values = given.value.values(alone, states)
        length = len(rollout.response)
        assert found.mask[row].tolist() == [t < length for t in range(found.mask.shape[1])]
        torch.testing.assert_close(found.log_probs[row, :length], log_prob, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.sampler_log_probs[row, :length], log_prob, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.values[row, :length], values, atol=1e-5, rtol=0)
        assert found.scores[row] == samples.grades[i][j].score
        assert found.stopped[row] == rollout.stopped


def test_kept_states_are_the_trunks(policy: Policy) -> None:
    given = answered(policy)
    packed = pack([one.group for one in given])
    torch.testing.assert_close(kept_states(policy, packed, given), policy.states(packed), atol=1e-5, rtol=0)


def test_minibatches_partition_the_answers(policy: Policy) -> None:
    found = experience(learner(policy), scored(policy), minibatches=3, micro_tokens=60)
    rows = [row for step in found.minibatches for micro in step for row in range(micro.rows.start, micro.rows.stop)]
    assert rows == list(range(15))
    assert len(found.minibatches) == 3


def test_rewards_are_kl_everywhere_and_the_score_at_the_end(policy: Policy, config: PPOConfig) -> None:
    given = learner(policy)
    found = experience(given, scored(policy))
    moved = replace(found, ref_log_probs=found.log_probs - 0.5)
    targets = aim(moved, config, kl_coef=0.2)
    for row, length in enumerate(found.mask.sum(1).tolist()):
        expected = torch.full((length,), -0.2 * 0.5)
        expected[-1] += found.scores[row]
        torch.testing.assert_close(targets.rewards[row, :length], expected, atol=1e-5, rtol=0)
        assert not targets.rewards[row, length:].any()
    inside = targets.advantages[found.mask]
    assert float(inside.mean()) == pytest.approx(0, abs=1e-5)
    assert float(inside.std(correction=0)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"mode": "none"}, [3.0, -9.0]),
        ({"mode": "subtract", "value": 2.0}, [3.0, -11.0]),
        ({"mode": "replace", "value": -1.0}, [3.0, -1.0]),
    ],
)
@pytest.mark.parametrize("clip", [None, 2.0])
def test_missing_end_of_turn(
    policy: Policy, tmp_path: Path, folder: Path, rule: dict[str, Any], expected: list[float], clip: float | None
) -> None:
    """The second answer never ended. A score is clipped first; the rule is not."""
    config = settings(write_task(tmp_path), folder, missing_eos=rule, reward_clip=clip)
    found = experience(learner(policy), scored(policy))
    scores, stopped = torch.tensor([3.0, -9.0] + [0.0] * 13), torch.tensor([True, False] + [True] * 13)
    targets = aim(replace(found, scores=scores, stopped=stopped), config, kl_coef=0.0)
    if clip is not None:
        expected = [2.0, {"none": -2.0, "subtract": -4.0, "replace": -1.0}[rule["mode"]]]
    assert targets.scores[:2].tolist() == expected


def test_prompt_baseline_compares_answers_to_one_prompt_only(policy: Policy, tmp_path: Path, folder: Path) -> None:
    config = settings(write_task(tmp_path), folder, score_baseline="prompt", sampling={"n": 3})
    found = experience(learner(policy), scored(policy))
    offsets = torch.tensor([100.0 * prompt for prompt, _ in found.places])
    targets = aim(found, config, kl_coef=0.0)
    shifted = aim(replace(found, scores=found.scores + offsets), config, kl_coef=0.0)
    torch.testing.assert_close(shifted.rewards, targets.rewards, atol=1e-4, rtol=0)
    totals = targets.rewards.sum(1)
    assert {prompt for prompt, _ in found.places} == set(range(5))
    for prompt in range(5):
        rows = [row for row, (one, _) in enumerate(found.places) if one == prompt]
        assert float(totals[rows].sum()) == pytest.approx(0, abs=1e-4)
        best = max(rows, key=lambda row: float(found.scores[row]))
        others = [float(found.scores[row]) for row in rows if row != best]
        assert float(totals[best]) == pytest.approx(float(found.scores[best]) - sum(others) / len(others), abs=1e-4)


def test_unscored_answers_leave_no_trace(policy: Policy) -> None:
    given = answered(policy)
    grades = [[Grade(1.0), Grade(None), Grade(2.0)], [Grade(None)] * 3, *[[Grade(0.0)] * 3] * 3]
    kept = drop_unscored(given, grades)
    assert kept.unscored == 4
    assert [len(one.rollouts) for one in kept.answered] == [2, 3, 3, 3]
    assert kept.answered[0].rollouts == (given[0].rollouts[0], given[0].rollouts[2])
    assert [grade.score for grade in kept.grades[0]] == [1.0, 2.0]


def test_update_moves_towards_the_advantages(policy: Policy, config: PPOConfig) -> None:
    """One answer is rewarded, all others are not: its probability rises against theirs, and the KL becomes positive."""
    given, samples = learner(policy), scored(policy)
    reference = policy.frozen_copy()
    found = experience(given, samples)
    scores = torch.zeros(15)
    scores[4] = 5.0
    found = replace(found, scores=scores, values=torch.zeros_like(found.values))
    targets = aim(found, config, kl_coef=0.0)
    moved = update(given, found, targets, config, kl_coef=0.0, lr_multiplier=1.0, iteration=0)
    assert moved.first_approx_kl == 0.0
    assert moved.passes == 4
    (micro,) = found.minibatches[0]
    with torch.no_grad():
        now = micro.packed.unpack(policy.log_probs(micro.packed, micro.states).log_prob)
        ref = micro.packed.unpack(reference.log_probs(micro.packed, micro.states).log_prob)
    gain = kl.sequence_kl(now, ref, found.mask)
    assert gain.argmax() == 4
    assert gain[4] > 0.5


def test_warm_up_teaches_the_value_branch_and_moves_nothing_else(policy: Policy, config: PPOConfig) -> None:
    learns = learner(policy)
    found = experience(learns, scored(policy))
    targets = aim(found, config, kl_coef=0.0, lam=1.0)
    before = {name: p.detach().clone() for name, p in policy.trainable().items()}
    warm_up_value(learns, found, targets, config.model_copy(update={"value_warmup": 30}))
    again = value_again(found, learns.value)
    mask = found.mask
    error = (found.values - targets.returns)[mask].square().mean()
    assert (again.values - targets.returns)[mask].square().mean() < 0.5 * error
    assert all(torch.equal(p, before[name]) for name, p in policy.trainable().items())
    assert torch.equal(again.log_probs, found.log_probs)


def test_values_again_are_the_values_of_unchanged_weights(policy: Policy) -> None:
    learns = learner(policy)
    found = experience(learns, scored(policy))
    assert torch.equal(value_again(found, learns.value).values, found.values)
