"""Where the reward comes from: a model on the policy's trunk, one with another tokenizer, several, a function."""

from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_task import rows_of, rule, settings, write_task
from transformers import AutoModelForCausalLM

from plaudit.core.records import TokenGroup, user_prompt
from plaudit.core.run import read_log, read_summary
from plaudit.datasets.render import Renderer
from plaudit.models.export import save_reward
from plaudit.models.load import load_policy, load_reward, new_reward
from plaudit.models.packing import pack
from plaudit.models.policy import Policy
from plaudit.models.precision import FLOAT32
from plaudit.rollouts.engine import sample
from plaudit.rollouts.sampling import Sampling
from plaudit.rollouts.scoring import Combine
from plaudit.training.ppo import train
from plaudit.training.ppo_reward import Answered, TextReward, TrunkReward, load_training_reward
from tiny import CONFIGS, make_folder, tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("policy") / "tiny")


def reward_from(base: Path, folder: Path, *, seed: int = 0) -> Path:
    """A reward model on the layers of `base`, with a head of its own."""
    fresh = new_reward(base, precision=FLOAT32, train_layers=2, seed=seed)
    save_reward(fresh.with_head(fresh.head), folder, pad_id=Renderer(fresh.tokenizer).pad_id)
    return folder


@pytest.fixture(scope="module")
def rewards(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two reward models that share the policy's trunk."""
    base = tmp_path_factory.mktemp("rewards")
    return [reward_from(folder, base / f"reward{seed}", seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model of another family whose tokenizer has other ids for the same text."""
    base = tmp_path_factory.mktemp("foreign")
    words = tokenizer()
    words.add_tokens(["fruit", "name", " please"])
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(CONFIGS["qwen2"](len(words)), dtype=torch.float32)
    model.save_pretrained(base / "qwen")
    words.save_pretrained(base / "qwen")
    return reward_from(base / "qwen", base / "reward")


def answers(policy: Policy, *, n: int) -> list[Answered]:
    renderer = Renderer(policy.tokenizer)
    prompts = [user_prompt(text) for text in ("name a fruit", "say yes", "go")]
    ids = [renderer.prompt_ids(prompt) for prompt in prompts]
    sampling = Sampling.model_validate({"max_new_tokens": 6, "n": n})
    rollouts = sample(policy, ids, sampling, end_ids=renderer.end_ids, seeds=[1, 2, 3], keep_states=True)
    return [Answered(prompt, tuple(row)) for prompt, row in zip(prompts, rollouts, strict=True)]


def load(specs: list[Path], policy: Policy, **combine: Any) -> TrunkReward | TextReward:
    return load_training_reward(
        [str(spec) for spec in specs],
        policy,
        Renderer(policy.tokenizer),
        combine=Combine(**combine),
        micro_tokens=40,
    )


@pytest.mark.parametrize("train_layers", [2, "all"])
def test_model_on_the_trunk_scores_as_it_does_alone(folder: Path, rewards: list[Path], train_layers: Any) -> None:
    """From the states kept while sampling, in packed rows, against the model as loaded, one answer at a time."""
    policy = load_policy(folder, precision=FLOAT32, train_layers=train_layers)
    reward = load(rewards[:1], policy)
    assert isinstance(reward, TrunkReward)
    assert reward.members[0].trunk is policy.trunk
    given = answers(policy, n=2)
    alone = load_reward(rewards[0], precision=FLOAT32)
    for one, row in zip(given, reward.grade(given), strict=True):
        for rollout, grade in zip(one.rollouts, row, strict=True):
            packed = pack([TokenGroup(rollout.prompt, (rollout.response,))])
            with torch.no_grad():
                score = float(alone.scores(packed, alone.states(packed)))
            assert grade.score == pytest.approx(score, abs=1e-5)
            assert grade.spread is None


def test_model_on_another_trunk_is_scored_by_text(folder: Path, tmp_path: Path, foreign: Path) -> None:
    policy = load_policy(folder, precision=FLOAT32, train_layers=2)
    other = make_folder(tmp_path / "other", seed=9)
    assert isinstance(load([reward_from(other, tmp_path / "reward")], policy), TextReward)
    assert isinstance(load([foreign], policy), TextReward)


def test_ensembles_combine_on_the_trunk(folder: Path, rewards: list[Path]) -> None:
    policy = load_policy(folder, precision=FLOAT32, train_layers=2)
    given = answers(policy, n=3)
    first, second = ([g.score for row in load([one], policy).grade(given) for g in row] for one in rewards)
    both = torch.tensor([first, second], dtype=torch.float64)
    expected = {
        "mean": both.mean(0),
        "worst": both.amin(0),
        "uncertainty": both.mean(0) - 2.0 * both.var(0, correction=0),
    }
    for mode, scores in expected.items():
        grades = [g for row in load(rewards, policy, mode=mode, penalty=2.0).grade(given) for g in row]
        torch.testing.assert_close(torch.tensor([g.score for g in grades], dtype=torch.float64), scores)
        torch.testing.assert_close(
            torch.tensor([g.spread for g in grades], dtype=torch.float64), both.std(0, correction=0)
        )


def test_value_starts_as_the_reward_model(tmp_path: Path, folder: Path, rewards: list[Path]) -> None:
    task = write_task(tmp_path)
    changes = {"reward": str(rewards[0]), "iterations": 1, "eval_every": 1}
    run = train(settings(task, folder, **changes))
    assert read_summary(run)["value_start"].startswith(f"the reward model {rewards[0]}, with a zero head")
    (row,) = rows_of(run)
    assert row["explained_variance"] == pytest.approx(0.0, abs=1e-6)  # a zero head knows nothing
    run = train(settings(task, folder, run="own-head", value_head="reward", **changes))
    assert read_summary(run)["value_start"] == f"the reward model {rewards[0]}"
    (row,) = rows_of(run)
    assert abs(row["explained_variance"]) > 1e-3
    assert "value_warmup" not in read_log(run, "timings")[0]


def test_warm_up_improves_the_reward_models_head(tmp_path: Path, folder: Path, rewards: list[Path]) -> None:
    task = write_task(tmp_path)
    changes = {"reward": str(rewards[0]), "value_head": "reward", "iterations": 1, "eval_every": 1}
    explained: list[float] = []
    for passes in (0, 8):
        run = train(settings(task, folder, run=f"passes-{passes}", value_warmup=passes, **changes))
        explained.append(rows_of(run)[0]["explained_variance"])
    assert explained[1] > explained[0]


def test_ensemble_of_models_trains(tmp_path: Path, folder: Path, rewards: list[Path]) -> None:
    task = write_task(tmp_path)
    specs = tuple(str(one) for one in rewards)
    run = train(settings(task, folder, reward=specs, ensemble={"mode": "worst"}))
    assert all(row["ensemble_spread"] > 0 for row in rows_of(run))


def test_other_tokenizer_trains(tmp_path: Path, folder: Path, foreign: Path) -> None:
    task = write_task(tmp_path)
    run = train(settings(task, folder, reward=str(foreign)))
    assert "zero head" in read_summary(run)["value_start"]
    assert all(row["reward_std"] > 0 for row in rows_of(run))


def test_model_and_function_together_train(tmp_path: Path, folder: Path, rewards: list[Path]) -> None:
    task = write_task(tmp_path)
    run = train(settings(task, folder, reward=(str(rewards[0]), rule(task, "early"))))
    assert all(row["ensemble_spread"] > 0 for row in rows_of(run))
