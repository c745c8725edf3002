"""SFT as a whole: it learns what generalises, can be interrupted, refuses what it should, and never half-writes."""

import json
import os
import random
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from faults import full_disk, ordinary_user
from plaudit.core.errors import DataError, DoctorError, Interrupted, RunError
from plaudit.core.records import Stop
from plaudit.core.run import read_log, read_summary
from plaudit.models.export import save_policy
from plaudit.models.load import load_policy
from plaudit.models.precision import FLOAT32
from plaudit.training import loop
from plaudit.training.loop import Moment
from plaudit.training.sft import train
from plaudit.training.sft_config import SFTConfig

WORDS = ["apple", "pear", "plum", "fig", "lime", "kiwi", "oat", "pea"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To repeat the second word: learnable, and a held-out prompt needs the rule."""
    generator = random.Random(0)
    rows = []
    for number in range(80):
        first, second = generator.choice(WORDS), generator.choice(WORDS)
        rows.append({"prompt": f"{first} {second} {number}", "response": second})
    file = tmp_path_factory.mktemp("data") / "demonstrations.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def settings(run: Path, data: Path, policy: Path, **overrides: Any) -> SFTConfig:
    values: dict[str, Any] = {
        "run": run,
        "model": str(policy),
        "data": str(data),
        "held_out": 0.2,
        "epochs": 1,
        "batch_size": 8,
        "lr": 1e-2,
        "precision": "float32",
        "samples": 2,
        "sample_tokens": 5,
    }
    return SFTConfig(**(values | overrides))


def bytes_of(run: Path) -> dict[str, bytes]:
    names = ("metrics.jsonl", "samples.jsonl", "model/model.safetensors")
    return {name: (run / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, data: Path, tiny_policy_folder: Path) -> Path:
    """A run left in peace."""
    return train(settings(tmp_path_factory.mktemp("straight") / "run", data, tiny_policy_folder, epochs=2))


def test_it_learns_what_generalises(straight: Path) -> None:
    loss = read_summary(straight)["held_out_loss"]
    assert loss["after"]["high"] < loss["before"]["low"] - 1
    assert loss["change"]["high"] < 0
    assert loss["after"]["n"] == 16
    rows = [row["loss"] for row in read_log(straight, "metrics") if "loss" in row]
    assert len(rows) == 16
    assert rows[-1] < rows[0] - 1
    plain = AutoModelForCausalLM.from_pretrained(straight / "model")
    assert all(torch.isfinite(p).all() for p in plain.parameters())
    assert not (straight / "checkpoints").exists()


def test_readings_stand_beside_the_demonstrations(straight: Path) -> None:
    samples = read_log(straight, "samples")
    assert [row["step"] for row in samples] == [0, 0, 16, 16]
    assert all(row["demonstration"] in WORDS for row in samples)
    assert samples[0]["prompt"] == samples[2]["prompt"]


def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(
    straight: Path, tmp_path: Path, data: Path, tiny_policy_folder: Path
) -> None:
    config = settings(tmp_path / "run", data, tiny_policy_folder, epochs=2)

    def press_ctrl_c(moment: Moment) -> None:
        if moment.step in (3, 11):
            os.kill(os.getpid(), signal.SIGINT)

    for step in (3, 11):
        with pytest.raises(Interrupted, match=f"after step {step} of 16"):
            train(config, hooks=[press_ctrl_c])
        assert not (tmp_path / "run" / "summary.json").exists()
    train(config)
    assert bytes_of(tmp_path / "run") == bytes_of(straight)


def test_checkpoints_by_time_change_nothing(
    straight: Path, tmp_path: Path, data: Path, tiny_policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.CheckpointClock, "due", lambda _self, step: step % 3 != 1)
    train(settings(tmp_path / "run", data, tiny_policy_folder, epochs=2))
    assert bytes_of(tmp_path / "run") == bytes_of(straight)


def test_given_again_after_the_end_it_does_nothing(straight: Path, data: Path, tiny_policy_folder: Path) -> None:
    before = bytes_of(straight)
    assert train(settings(straight, data, tiny_policy_folder, epochs=2)) == straight
    assert bytes_of(straight) == before
    with pytest.raises(RunError, match="epochs: 2 in the folder, 3 now"):
        train(settings(straight, data, tiny_policy_folder, epochs=3))


@pytest.mark.parametrize("changes", [{"train_layers": 2}, {"lora": {"rank": 4}}, {"precision": "bfloat16"}])
def test_fewer_layers_adapters_and_bfloat16_learn_too(
    tmp_path: Path, data: Path, tiny_policy_folder: Path, changes: dict[str, Any]
) -> None:
    run = train(settings(tmp_path / "run", data, tiny_policy_folder, epochs=2, **changes))
    loss = read_summary(run)["held_out_loss"]
    assert loss["change"]["high"] < -0.1


def test_loss_on_all_learns_prompts_too(tmp_path: Path, data: Path, tiny_policy_folder: Path) -> None:
    runs = {
        kind: train(settings(tmp_path / kind, data, tiny_policy_folder, loss_on=kind, samples=0))
        for kind in ("response", "all")
    }
    tokens = {kind: read_summary(run)["trained_tokens"] for kind, run in runs.items()}
    assert tokens["all"] > 3 * tokens["response"]


def test_a_hook_can_end_it(tmp_path: Path, data: Path, tiny_policy_folder: Path) -> None:
    seen: list[float] = []

    def hook(moment: Moment) -> Stop | None:
        seen.append(moment.metrics["loss"])
        return Stop("seen enough") if moment.step == 4 else None

    summary = read_summary(train(settings(tmp_path / "run", data, tiny_policy_folder), hooks=[hook]))
    assert (summary["steps"], summary["stopped"]) == (4, "seen enough")
    assert len(seen) == 4


def test_a_prompt_on_both_sides_is_refused_before_training(
    tmp_path: Path, data: Path, tiny_policy_folder: Path
) -> None:
    with pytest.raises(DataError, match="held-out prompts are in the training data too"):
        train(settings(tmp_path / "run", data, tiny_policy_folder, eval_data=str(data)))
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, data: Path, tiny_policy_folder: Path) -> None:
    def poison(moment: Moment) -> None:
        if moment.step == 2:
            with torch.no_grad():
                next(iter(moment.model.trainable().values())).fill_(float("nan"))

    with pytest.raises(DoctorError, match="The loss is nan at step 3"):
        train(settings(tmp_path / "run", data, tiny_policy_folder), hooks=[poison])
    assert not (tmp_path / "run" / "model").exists()


def test_a_full_disk_at_the_end_is_a_clear_error_and_the_same_command_goes_on(
    straight: Path, tmp_path: Path, data: Path, tiny_policy_folder: Path
) -> None:
    config = settings(tmp_path / "run", data, tiny_policy_folder, epochs=2)
    # the logs fit, the weights do not
    with full_disk(100_000), pytest.raises(RunError, match=r"Cannot write .*model.*Remedy"):
        train(config)
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "summary.json").exists()
    train(config)
    assert bytes_of(tmp_path / "run") == bytes_of(straight)


def test_a_read_only_folder_leaves_the_older_model(tiny_policy_folder: Path) -> None:
    policy = load_policy(tiny_policy_folder, precision=FLOAT32)
    with tempfile.TemporaryDirectory() as parent:  # tmp_path is closed to other users
        os.chmod(parent, 0o755)
        save_policy(policy, Path(parent) / "model")
        older = (Path(parent) / "model" / "model.safetensors").read_bytes()
        os.chmod(parent, 0o555)
        try:
            with ordinary_user(), pytest.raises(RunError, match=r"Cannot write .*model"):
                save_policy(policy, Path(parent) / "model")
        finally:
            os.chmod(parent, 0o755)
        assert (Path(parent) / "model" / "model.safetensors").read_bytes() == older
