"""PPO as a whole: it starts exactly, learns what is rewarded, on prompts it never saw, and is held by the KL."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_task import judged, rows_of, rule, settings, write_task
from safetensors.torch import load_file

from plaudit.algorithms import advantages
from plaudit.algorithms.kl import AdaptiveKL, adapt
from plaudit.core.errors import DataError, DoctorError, Interrupted
from plaudit.core.records import Stop
from plaudit.core.run import read_log, read_summary
from plaudit.evaluation.statistics import paired_permutation_test
from plaudit.training import ppo_experience
from plaudit.training.loop import Moment
from plaudit.training.ppo import prompts_of, train
from plaudit.training.ppo_config import PPOConfig
from tiny import make_folder

LEARN = {"iterations": 10, "prompts_per_iteration": 32, "train_layers": "all", "lr": 1e-2, "eval_every": 10}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("policy") / "tiny")


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return write_task(tmp_path / "task")


def p_value_of_rise(run: Path, step: int) -> float:
    """Two-sided p of no change of the judge on held-out prompts; 1 if it did not rise."""
    before, after = judged(run, 0), judged(run, step)
    assert len(before) == len(after) == 32
    differences = [b - a for a, b in zip(before, after, strict=True)]
    if sum(differences) <= 0:
        return 1.0
    return paired_permutation_test(differences, range(len(differences)), seed=0, permutations=2000)


# --- the start (P17) -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train_layers", [2, "all"])
def test_first_step_is_exact(task: Path, policy: Path, train_layers: int | str) -> None:
    """With one pass and one minibatch nothing has moved yet: ratio 1, KL 0, no clipping, L_pi = -mean(A) = 0."""
    train(settings(task, policy, iterations=1, epochs=1, eval_every=1, train_layers=train_layers))
    (row,) = rows_of(task / "run")
    assert row["ratio_mean"] == 1.0
    assert row["ratio_max"] == 1.0
    assert row["clip_fraction"] == row["approx_kl"] == row["value_clip_fraction"] == 0.0
    assert row["kl"] == row["kl_k3"] == 0.0
    assert abs(row["policy_loss"]) < 1e-6
    assert row["explained_variance"] == pytest.approx(0.0, abs=1e-6)  # a zero head knows nothing
    assert row["sampler_difference_max"] < 1e-4


def test_first_ratio_is_one_under_lora_and_minibatches(task: Path, policy: Path) -> None:
    """The doctor raises otherwise, in every iteration. The reference of LoRA is the base, adapters off."""
    config = settings(
        task, policy, lora={"rank": 4}, minibatches=3, micro_tokens=64, sampling={"max_new_tokens": 8, "n": 2}
    )
    train(config)
    rows = rows_of(task / "run")
    assert rows[0]["kl"] == 0.0
    assert rows[1]["kl"] != 0.0


def test_temperature_is_the_same_everywhere(task: Path, policy: Path) -> None:
    train(settings(task, policy, iterations=1, eval_every=1, sampling={"max_new_tokens": 8, "temperature": 0.5}))
    (row,) = rows_of(task / "run")
    assert row["sampler_difference_max"] < 1e-4


# --- learning --------------------------------------------------------------------------------------------------------


def test_learns_on_held_out_prompts(task: Path, policy: Path) -> None:
    run = train(settings(task, policy, **LEARN))
    assert p_value_of_rise(run, 10) < 0.01
    summary = read_summary(run)
    assert summary["judge"]["difference"]["low"] > 0
    assert summary["best_step"] == 10
    assert rows_of(run, evaluated=True)[-1]["judge"] > rows_of(run, evaluated=True)[0]["judge"] + 0.15


def test_learning_is_not_an_accident_of_the_sign(task: Path, policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The must-fail twin of the test above: with the advantages turned round the same run does not rise."""

    def turned(*args: Any, **named: Any) -> advantages.Advantages:
        found = advantages.gae(*args, **named)
        return advantages.Advantages(-found.advantages, found.returns)

    monkeypatch.setattr(ppo_experience, "gae", turned)
    run = train(settings(task, policy, **LEARN))
    assert p_value_of_rise(run, 10) > 0.01


@pytest.mark.parametrize("kl", [{}, {"placement": "loss", "estimator": "k2"}])
def test_kl_penalty_keeps_the_policy_near(task: Path, policy: Path, kl: dict[str, Any]) -> None:
    kls = {}
    for coef in (0.0, 1.0):
        changes = LEARN | {"iterations": 6, "eval_every": 6, "kl": kl | {"coef": coef}}
        run = train(settings(task, policy, run=f"run{coef}", **changes))
        kls[coef] = rows_of(run, evaluated=True)[-1]["held_out_kl"]
    assert 0 < kls[1.0] < 0.5 * kls[0.0]


def test_adaptive_coefficient_follows_the_observed_kl(task: Path, policy: Path) -> None:
    """Each coefficient follows from the row before, by the controller's formula; it was used before it moved."""
    kl = {"coef": 0.1, "adaptive": True, "target": 0.5, "horizon": 100}
    rows = rows_of(train(settings(task, policy, iterations=5, lr=1e-2, kl=kl)))
    state = AdaptiveKL(0.1, 0.5, 100)
    for row in rows:
        assert row["kl_coefficient"] == state.coefficient
        state = adapt(state, observed=row["kl"], episodes=8)
    assert rows[1]["kl_coefficient"] < 0.1  # KL 0 lies below the target
    assert rows[-1]["kl_coefficient"] > rows[-2]["kl_coefficient"]


def test_target_kl_ends_the_passes(task: Path, policy: Path) -> None:
    free = rows_of(train(settings(task, policy, run="free", iterations=1, eval_every=1, lr=1e-2)))
    held = rows_of(train(settings(task, policy, run="held", iterations=1, eval_every=1, lr=1e-2, target_kl=1e-4)))
    assert free[0]["passes"] == 4
    assert held[0]["passes"] == 2  # the first pass moves nothing before its loss is measured


def test_ptx_holds_the_demonstrations(task: Path, policy: Path) -> None:
    demonstrations = task / "demonstrations.jsonl"
    rows = [{"prompt": f"say {i}", "response": "pear plum apple"} for i in range(8)]
    demonstrations.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ptx = {"data": str(demonstrations), "coef": 1.0, "rows": 4}
    rows = rows_of(train(settings(task, policy, iterations=4, lr=1e-2, ptx=ptx)))
    assert rows[-1]["ptx_loss"] < rows[0]["ptx_loss"] - 0.5
    assert rows[0]["ptx_loss"] > 1


# --- the judge -------------------------------------------------------------------------------------------------------


def test_judge_chooses_the_checkpoint(task: Path, policy: Path) -> None:
    """A planted judge prefers the weights of step 2 of 4; `model/` is those, and `model-final` the last ones."""
    seen: dict[int, torch.Tensor] = {}

    def remember(moment: Moment) -> None:
        seen[moment.step] = next(iter(moment.model.trainable().values())).detach().clone()

    config = settings(task, policy, iterations=4, eval_every=1, judge=rule(task, "peak"), keep_final=True)
    run = train(config, hooks=[remember])
    summary = read_summary(run)
    assert summary["best_step"] == 2
    assert summary["judge"]["best"]["value"] == 5.0
    name = "model.layers.2.self_attn.q_proj.weight"
    assert torch.equal(load_file(run / "model/model.safetensors")[name], seen[2])
    assert torch.equal(load_file(run / "model-final/model.safetensors")[name], seen[4])
    assert not torch.equal(seen[2], seen[4])
    assert not (run / "checkpoints").exists()


def test_start_is_kept_when_nothing_is_better(task: Path, policy: Path) -> None:
    run = train(settings(task, policy, judge=rule(task, "falling")))
    summary = read_summary(run)
    assert summary["best_step"] == 0
    assert any("model/ is that model" in str(warning) for warning in summary["warnings"])
    before, after = load_file(policy / "model.safetensors"), load_file(run / "model/model.safetensors")
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())


def test_without_a_judge_the_summary_says_so(task: Path, policy: Path) -> None:
    summary = read_summary(train(settings(task, policy, judge="none")))
    assert summary["best_step"] == 2
    assert "judge" not in summary
    assert any("not chosen by an independent judge" in str(warning) for warning in summary["warnings"])


def test_held_out_prompts_are_never_trained_on(task: Path, policy: Path) -> None:
    run = train(settings(task, policy, iterations=8))
    samples = read_log(run, "samples")
    kinds = {kind: {str(row["prompt"]) for row in samples if row["kind"] == kind} for kind in ("train", "held out")}
    assert len(kinds["train"]) == 48  # every one of them, by the seventh iteration
    assert len(kinds["held out"]) == 32
    assert not kinds["train"] & kinds["held out"]


def test_prompts_come_once_an_epoch() -> None:
    drawn = [number for i in range(6) for number in prompts_of(i, rows=9, count=6, seed=3)]
    epochs = [drawn[i : i + 9] for i in range(0, 36, 9)]
    assert all(sorted(epoch) == list(range(9)) for epoch in epochs)
    assert epochs[0] != epochs[1]


# --- rewards that are missing, equal, or wrong -----------------------------------------------------------------------


def test_unscored_answers_are_left_out_and_counted(task: Path, policy: Path) -> None:
    run = train(settings(task, policy, reward=rule(task, "shy")))
    rows = rows_of(run)
    assert [row["unscored"] for row in rows] == [4, 4]
    assert all(100 <= row["reward"] <= 101 for row in rows)  # a 0 among them would halve the mean
    assert read_summary(run)["unscored"] == 8


def test_all_unscored_is_an_error(task: Path, policy: Path) -> None:
    with pytest.raises(DataError, match="left all 8 answers of iteration 1 unscored"):
        train(settings(task, policy, reward=rule(task, "silent")))


def test_equal_rewards_are_an_error(task: Path, policy: Path) -> None:
    with pytest.raises(DoctorError, match=r"same reward \(0.5\)"):
        train(settings(task, policy, iterations=5, reward=rule(task, "flat")))


# --- stopping and going on -------------------------------------------------------------------------------------------


def numbers(run: Path) -> list[dict[str, Any]]:
    return read_log(run, "metrics")


@pytest.mark.parametrize("at", [1, 2, 3])
def test_ctrl_c_saves_and_the_run_goes_on_bit_for_bit(task: Path, policy: Path, at: int) -> None:
    shared: dict[str, Any] = {
        "iterations": 4,
        "judge": rule(task, "early_judge"),
        "kl": {"coef": 0.1, "adaptive": True, "target": 0.5, "horizon": 100},
        "warmup": 1,
        "schedule": "cosine",
    }

    def interrupt(moment: Moment) -> None:
        if moment.step == at:
            os.kill(os.getpid(), signal.SIGINT)

    whole = train(settings(task, policy, run="whole", **shared))
    config = settings(task, policy, run="halves", **shared)
    with pytest.raises(Interrupted, match=f"after step {at} of 4"):
        train(config, hooks=[interrupt])
    halves = train(config)
    assert numbers(halves) == numbers(whole)
    assert read_summary(halves) == read_summary(whole)
    assert read_log(halves, "samples") == read_log(whole, "samples")
    weights = [load_file(run / "model/model.safetensors") for run in (whole, halves)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_a_hook_can_stop_the_run(task: Path, policy: Path) -> None:
    run = train(
        settings(task, policy, iterations=9),
        hooks=[lambda moment: Stop("seen enough") if moment.step == 2 else None],
    )
    summary = read_summary(run)
    assert summary["stopped"] == "seen enough"
    assert summary["steps"] == 2
    assert (run / "model/config.json").exists()


def test_finished_run_is_left_alone(task: Path, policy: Path) -> None:
    config = settings(task, policy, iterations=1, eval_every=1)
    run = train(config)
    before = (run / "summary.json").stat().st_mtime_ns
    assert train(config) == run
    assert (run / "summary.json").stat().st_mtime_ns == before


# --- settings that contradict themselves -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sampling": {"top_p": 0.9}}, "another distribution"),
        ({"sampling": {"top_k": 5}}, "another distribution"),
        ({"sampling": {"temperature": 0.0}}, "greedy"),
        ({"minibatches": 9}, "more than prompts_per_iteration=8"),
        ({"judge": "r.py:f", "reward": "r.py:f"}, "cannot notice"),
        ({"kl": {"placement": "loss", "estimator": "k1"}}, "gradient of zero"),
        ({"sampling": {"n": 1}, "score_baseline": "prompt"}, "two or more"),
    ],
)
def test_contradictions_are_refused(task: Path, policy: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings(task, policy, **change)


def test_truncated_sampling_can_be_insisted_on(task: Path, policy: Path) -> None:
    config = settings(task, policy, sampling={"top_p": 0.9, "max_new_tokens": 8}, allow_truncated_sampling=True)
    assert isinstance(config, PPOConfig)
    train(config)
