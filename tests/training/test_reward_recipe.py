"""The reward recipe on a tiny model and simulated labelers: it learns, and the folder holds what it says."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from plaudit.core.errors import DataError, DoctorError, Interrupted
from plaudit.core.files import read_jsonl
from plaudit.core.records import Stop, user_prompt
from plaudit.core.run import read_log, read_summary
from plaudit.datasets.judgments import JudgedPrompt, ScoredPrompt
from plaudit.evaluation.reward_audit import audit
from plaudit.models.policy import ScalarModel
from plaudit.rollouts.scoring import EnsembleScorer, RewardModelScorer, load_scorer
from plaudit.training import reward
from plaudit.training.loop import Moment
from plaudit.training.reward_config import RewardConfig

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "good", "bad", "fruit", "sea", "apple"]


def write_rankings(folder: Path, *, prompts: int, seed: int = 0) -> Path:
    """Three labelers who count "good" and "bad", each wrong about one pair of texts in ten."""
    generator = random.Random(seed)
    rows = []
    for number in range(prompts):
        texts = [" ".join(generator.choices(WORDS, k=generator.randint(3, 8))) for _ in range(4)]
        for labeler in ("ann", "bob", "cy"):
            felt = [t.count("good") - t.count("bad") + (generator.random() < 0.1) for t in texts]
            order = sorted(set(felt), reverse=True)
            ranks = [order.index(value) + 1 for value in felt]
            rows.append({"prompt": f"write about {number}", "responses": texts, "ranks": ranks, "labeler": labeler})
    return write(folder / "rankings.jsonl", rows)


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(run: Path, data: Path, policy: Path, **changes: object) -> RewardConfig:
    settings = {
        "run": run,
        "data": str(data),
        "model": str(policy),
        "train_layers": 2,
        "epochs": 3,
        "lr": 3e-3,
        "batch_size": 8,
        "held_out": 0.3,
        "precision": "float32",
        "max_tokens": 128,
    }
    return RewardConfig.model_validate(settings | changes)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory, tiny_policy_folder: Path) -> Path:
    """A finished run of two members, normalised on demonstrations."""
    folder = tmp_path_factory.mktemp("reward")
    data = write_rankings(folder, prompts=60)
    rows = [{"prompt": f"tell {n}", "response": f"{WORDS[n % 12]} good {WORDS[n % 5]}"} for n in range(20)]
    demonstrations = write(folder / "demonstrations.jsonl", rows)
    settings = config(folder / "run", data, tiny_policy_folder, members=2, normalise_on=str(demonstrations))
    return reward.train(settings, audit=audit)


def permutation_p_value(scored: Sequence[Mapping[str, Any]], draws: int = 999) -> float:
    """How often scores shuffled within each prompt order the strict pairs as well as the model does."""
    generator = random.Random(0)

    def right(rows: Sequence[Sequence[float]]) -> float:
        total = 0.0
        for row, scores in zip(scored, rows, strict=True):
            for judgment in row["judgments"]:
                items, ranks = judgment["items"], judgment["ranks"]
                for a in range(len(items)):
                    for b in range(len(items)):
                        if ranks[a] < ranks[b]:
                            total += scores[items[a]] > scores[items[b]]
        return total

    observed = right([row["scores"] for row in scored])
    shuffled = ([generator.sample(row["scores"], len(row["scores"])) for row in scored] for _ in range(draws))
    return (1 + sum(right(rows) >= observed for rows in shuffled)) / (1 + draws)


def test_it_learns_what_simulated_labelers_prefer_on_unseen_prompts(ensemble: Path) -> None:
    assert permutation_p_value(list(read_jsonl(ensemble / "held_out_scores.jsonl"))) < 0.01
    summary = read_summary(ensemble)
    assert summary["accuracy"]["low"] > 0.5
    assert summary["accuracy"]["value"] > summary["baselines"]["length"]["accuracy"]["value"]
    assert summary["labelers"]["count"] == 3
    assert summary["held_out"]["prompts"] == 18
    assert summary["data"]["train_prompts"] == 42


def test_demonstrations_score_zero_on_average_in_plain_transformers(ensemble: Path) -> None:
    for member in ("member-0", "member-1"):
        folder = ensemble / "model" / member
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        scores = []
        for row in read_jsonl(ensemble.parent / "demonstrations.jsonl"):
            chat = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]
            text = tokenizer.apply_chat_template(chat, tokenize=False).removesuffix("\n")
            with torch.no_grad():
                ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
                scores.append(float(model(input_ids=ids).logits))
        assert abs(sum(scores) / len(scores)) < 1e-4
        assert max(scores) - min(scores) > 1e-2
    for zero in read_summary(ensemble)["normalisation"]:
        assert abs(zero["shift"]) > 1e-3
        assert abs(zero["accuracy_after"] - zero["accuracy_before"]) < 0.05


def test_the_saved_ensemble_gives_the_scores_in_the_run_folder(ensemble: Path) -> None:
    scorer = load_scorer(str(ensemble), precision="float32")
    assert isinstance(scorer, EnsembleScorer)
    first, second = scorer.scorers
    assert isinstance(first, RewardModelScorer)
    assert isinstance(second, RewardModelScorer)
    assert second.model.trunk is first.model.trunk
    for row in list(read_jsonl(ensemble / "held_out_scores.jsonl"))[:5]:
        prompt = user_prompt(row["prompt"][0]["content"])
        found = scorer.score_members([prompt] * len(row["responses"]), row["responses"])
        assert found.scores == pytest.approx(row["scores"], abs=1e-4)
        for member, expected in zip(found.members, row["members"], strict=True):
            assert member == pytest.approx(expected, abs=1e-4)
    rows = list(read_jsonl(ensemble / "held_out_scores.jsonl"))
    assert any(one["members"][0] != pytest.approx(one["members"][1], abs=1e-2) for one in rows)


def test_a_finished_run_is_left_alone(ensemble: Path, tiny_policy_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in ensemble.rglob("*") if path.is_file()}
    data, demonstrations = ensemble.parent / "rankings.jsonl", ensemble.parent / "demonstrations.jsonl"
    settings = config(ensemble, data, tiny_policy_folder, members=2, normalise_on=str(demonstrations))
    assert reward.train(settings, audit=audit) == ensemble
    assert before == {path: path.stat().st_mtime_ns for path in ensemble.rglob("*") if path.is_file()}


@pytest.mark.parametrize("changes", [{"ties": "davidson"}, {"ties": "rao_kupper"}, {"loss": "plackett_luce"}])
def test_other_likelihoods_learn_too(tmp_path: Path, tiny_policy_folder: Path, changes: dict[str, object]) -> None:
    data = write_rankings(tmp_path, prompts=40)
    run = reward.train(config(tmp_path / "run", data, tiny_policy_folder, **changes), audit=audit)
    summary = read_summary(run)
    assert summary["accuracy"]["value"] > 0.65
    assert len(summary["tie_parameters"]) == ("ties" in changes)


def stop_at(step: int) -> Any:
    def hook(moment: Moment) -> Stop | None:
        if moment.step == step:
            raise KeyboardInterrupt
        return None

    return hook


@pytest.mark.parametrize("stop", [2, 3, 7, 10])
def test_broken_off_and_continued_is_never_broken_off(stop: int, tmp_path: Path, tiny_policy_folder: Path) -> None:
    """In the first epoch, with a best epoch to remember, at the end of a member, in the second one; bit for bit."""
    data = write_rankings(tmp_path, prompts=30)
    changes: dict[str, object] = {
        "members": 2,
        "epochs": 3,
        "choose_epoch": True,
        "checkpoint_every": 1,
        "bootstrap": True,
    }
    whole = reward.train(config(tmp_path / "whole", data, tiny_policy_folder, **changes), audit=audit)
    broken = config(tmp_path / "broken", data, tiny_policy_folder, **changes)
    with pytest.raises(KeyboardInterrupt):
        reward.train(broken, audit=audit, hooks=[stop_at(stop)])
    again = reward.train(broken, audit=audit)
    for name in (
        "metrics.jsonl",
        "held_out_scores.jsonl",
        "model/member-0/model.safetensors",
        "model/member-1/model.safetensors",
    ):
        assert (whole / name).read_bytes() == (again / name).read_bytes(), name
    assert read_summary(whole) == read_summary(again)
    assert len(read_summary(whole)["chosen_epochs"]) == 2
    assert not list((again / "checkpoints").glob("*"))


def test_a_chosen_epoch_is_measured_on_prompts_that_did_not_choose_it(tmp_path: Path, tiny_policy_folder: Path) -> None:
    data = write_rankings(tmp_path, prompts=40)
    seen: dict[str, set[str]] = {}

    def spy(held_out: Sequence[ScoredPrompt], train: Sequence[JudgedPrompt]) -> Mapping[str, Any]:
        seen["held_out"] = {one.judged.key for one in held_out}
        seen["train"] = {one.key for one in train}
        return {}

    run = reward.train(config(tmp_path / "run", data, tiny_policy_folder, choose_epoch=True), audit=spy)
    assert not seen["held_out"] & seen["train"]
    assert len(seen["held_out"]) + len(seen["train"]) < 40  # the rest chose the epoch
    rows = [row for row in read_log(run, "metrics") if "choose_loss" in row]
    best = min(range(3), key=lambda epoch: rows[epoch]["choose_loss"])
    assert read_summary(run)["chosen_epochs"] == [best + 1]


def test_a_hook_can_end_the_training(tmp_path: Path, tiny_policy_folder: Path) -> None:
    def hook(moment: Moment) -> Stop | None:
        return Stop("enough") if moment.step == 2 else None

    data = write_rankings(tmp_path, prompts=30)
    run = reward.train(config(tmp_path / "run", data, tiny_policy_folder), audit=audit, hooks=[hook])
    summary = read_summary(run)
    assert (summary["steps"], summary["stopped"]) == (2, "enough")
    assert isinstance(load_scorer(str(run), precision="float32"), RewardModelScorer)


def test_states_that_do_not_fit_into_memory_change_no_result(tmp_path: Path, tiny_policy_folder: Path) -> None:
    data = write_rankings(tmp_path, prompts=20)
    runs = [
        reward.train(config(tmp_path / name, data, tiny_policy_folder, trunk_memory=memory), audit=audit)
        for name, memory in (("all", 1.0), ("some", 1e-4), ("none", 0.0))
    ]
    everything, some, none = (list(read_jsonl(run / "held_out_scores.jsonl")) for run in runs)
    for a, b, c in zip(everything, some, none, strict=True):
        assert a["scores"] == pytest.approx(b["scores"], abs=1e-3)
        assert a["scores"] == pytest.approx(c["scores"], abs=1e-3)


def test_the_doctor_refuses_a_head_that_does_not_learn(
    tmp_path: Path, tiny_policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_rankings(tmp_path, prompts=20)
    monkeypatch.setattr(reward.Optimizer, "step", lambda *_: 0.0)
    with pytest.raises(DoctorError, match="did not move"):
        reward.train(config(tmp_path / "run", data, tiny_policy_folder), audit=audit)


def test_the_doctor_refuses_constant_scores(
    tmp_path: Path, tiny_policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_rankings(tmp_path, prompts=20)
    monkeypatch.setattr(
        ScalarModel, "end_states", lambda self, packed, _: torch.zeros(len(packed.end), len(self.head)) + 0 * self.head
    )
    with pytest.raises(DoctorError, match=r"learnt nothing|No gradient|did not move"):
        reward.train(config(tmp_path / "run", data, tiny_policy_folder), audit=audit)
    assert not (tmp_path / "run" / "model").exists()


def test_unfit_data_is_refused_before_anything_is_trained(tmp_path: Path, tiny_policy_folder: Path) -> None:
    tied = [{"prompt": f"p{n}", "responses": ["a", "b"], "ranks": [1, 1 + (n == 3)]} for n in range(10)]
    two = [{"prompt": f"p{n}", "responses": ["a", "b"], "ranks": [1, 2], "criterion": f"c{n % 2}"} for n in range(10)]
    answers = [{"prompt": f"p{n}", "response": "a"} for n in range(10)]
    for name, rows, message in (
        ("tied", tied, "no pair with a preference"),
        ("criteria", two, "ranks by 2 criteria"),
        ("answers", answers, "demonstration"),
    ):
        data = write(tmp_path / f"{name}.jsonl", rows)
        with pytest.raises(DataError, match=message):
            reward.train(config(tmp_path / name, data, tiny_policy_folder), audit=audit)
        assert not (tmp_path / name).exists()
    leaking = write_rankings(tmp_path, prompts=10)
    with pytest.raises(DataError, match="training data"):
        reward.train(config(tmp_path / "leak", leaking, tiny_policy_folder, eval_data=str(leaking)), audit=audit)


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path, tiny_policy_folder: Path) -> None:
    import os
    import signal

    def hook(moment: Moment) -> Stop | None:
        if moment.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return None

    data = write_rankings(tmp_path, prompts=30)
    settings = config(tmp_path / "run", data, tiny_policy_folder)
    with pytest.raises(Interrupted, match="plaudit reward --config"):
        reward.train(settings, audit=audit, hooks=[hook])
    assert len(read_log(tmp_path / "run", "metrics")) == 2
    assert read_summary(reward.train(settings, audit=audit))["steps"] == 9
