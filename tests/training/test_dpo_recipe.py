"""DPO as a whole: it learns preferences that generalise, from comparisons and rankings, and starts exactly."""

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from plaudit.core.config import load_config
from plaudit.core.errors import ConfigError, DataError, Interrupted
from plaudit.core.run import read_log, read_summary
from plaudit.training.dpo import train
from plaudit.training.dpo_config import DPOConfig
from plaudit.training.loop import Moment

WORDS = ["apple", "pear", "plum", "fig", "lime", "kiwi", "oat", "pea"]


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def rankings(rows: int = 60) -> list[dict[str, Any]]:
    """Three answers about a word; the one that says yes is liked, the others are tied."""
    generator = random.Random(0)
    made: list[dict[str, Any]] = []
    for number in range(rows):
        first, second = generator.sample(WORDS, 2)
        responses = [f"no {second}", f"yes {second}", f"maybe {second}"]
        made.append({"prompt": f"{first} {second} {number}", "responses": responses, "ranks": [2, 1, 2]})
    return made


def settings(run: Path, data: Path, policy: Path, **overrides: Any) -> DPOConfig:
    values = {
        "run": run,
        "policy": policy,
        "data": data,
        "held_out": 0.2,
        "epochs": 2,
        "batch_size": 8,
        "lr": 2e-3,
        "precision": "float32",
        "train_layers": 4,
    }
    return load_config(DPOConfig, None, [f"{key}={value}" for key, value in (values | overrides).items()])


def test_rankings_teach_a_preference_that_holds_on_unseen_prompts(tmp_path: Path, tiny_policy_folder: Path) -> None:
    data = write(tmp_path / "rankings.jsonl", rankings())
    run = train(settings(tmp_path / "run", data, tiny_policy_folder))
    summary = read_summary(run)
    assert summary["data"]["train"]["pairs"] == 2 * 48
    assert summary["data"]["train"]["ties_not_used"] == 48
    assert summary["held_out"]["accuracy"]["low"] > 0.5
    assert summary["held_out"]["margin"]["low"] > 0
    rows = [row for row in read_log(run, "metrics") if "loss" in row]
    assert rows[0]["loss"] == pytest.approx(0.693147, abs=1e-6)  # D1
    for name in ("margin", "chosen_reward", "rejected_reward"):
        assert abs(rows[0][name]) < 1e-5
    assert rows[-1]["loss"] < 0.6
    assert rows[-1]["margin"] == pytest.approx(rows[-1]["chosen_reward"] - rows[-1]["rejected_reward"], abs=1e-5)


def test_swapped_answers_teach_the_opposite(tmp_path: Path, tiny_policy_folder: Path) -> None:
    comparisons = [
        {"prompt": row["prompt"], "chosen": row["responses"][1], "rejected": row["responses"][0]} for row in rankings()
    ]
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in comparisons[:45]]
    data = write(tmp_path / "swapped.jsonl", swapped)
    measured = write(tmp_path / "measured.jsonl", comparisons[45:])
    run = train(settings(tmp_path / "run", data, tiny_policy_folder, eval_data=measured))
    assert read_summary(run)["held_out"]["accuracy"]["high"] < 0.5


@pytest.mark.parametrize("changes", [{"loss": "ipo"}, {"label_smoothing": 0.1, "sft": 0.2}, {"lora": "{rank: 4}"}])
def test_the_relatives_learn_too(tmp_path: Path, tiny_policy_folder: Path, changes: dict[str, Any]) -> None:
    data = write(tmp_path / "rankings.jsonl", rankings())
    run = train(settings(tmp_path / "run", data, tiny_policy_folder, **changes))
    assert read_summary(run)["held_out"]["margin"]["low"] > 0


def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(tmp_path: Path, tiny_policy_folder: Path) -> None:
    data = write(tmp_path / "rankings.jsonl", rankings(30))

    def press_ctrl_c(_moment: Moment) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    runs = [settings(tmp_path / name, data, tiny_policy_folder, epochs=1, train_layers=2) for name in ("a", "b")]
    train(runs[0])
    for _ in range(2):
        with pytest.raises(Interrupted):
            train(runs[1], hooks=[press_ctrl_c])
    train(runs[1])
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_unfit_data_is_refused_before_training(tmp_path: Path, tiny_policy_folder: Path) -> None:
    tied = [row | {"ranks": [1, 1, 1]} for row in rankings(20)]
    with pytest.raises(DataError, match="are ties: there is nothing to learn"):
        train(settings(tmp_path / "run", write(tmp_path / "tied.jsonl", tied), tiny_policy_folder))
    margins = [{"prompt": f"p{i}", "chosen": "a", "rejected": "b", "margin": 2.0} for i in range(20)]
    with pytest.raises(ConfigError, match="loss=ipo has a target of its own"):
        train(settings(tmp_path / "run", write(tmp_path / "m.jsonl", margins), tiny_policy_folder, loss="ipo"))
    demonstrations = [{"prompt": f"p{i}", "response": "a"} for i in range(20)]
    with pytest.raises(DataError, match="holds demonstrations; DPO learns from"):
        train(settings(tmp_path / "run", write(tmp_path / "d.jsonl", demonstrations), tiny_policy_folder))
    assert not (tmp_path / "run").exists()
