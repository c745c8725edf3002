"""The E2E example from its first stage to its tables, on a tiny model and made-up rows."""

import subprocess
import sys
from pathlib import Path

from e2e_rows import write_data

from conftest import EXAMPLES
from plaudit.core.run import read_summary

SMALL = [
    "test_prompts=5",
    "choose_prompts=3",
    "test_answers=1",
    "members=2",
    "iterations=2",
    "max_new_tokens=4",
    "reward_epochs=1",
    "best_of=2",
    "train_layers=2",
]


def run(script: str, *settings: str) -> None:
    command = [sys.executable, str(EXAMPLES / "e2e" / script), *settings, *SMALL]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_every_stage_and_both_tables(tiny_policy_folder: Path, tmp_path: Path) -> None:
    data, folder = write_data(tmp_path / "source"), tmp_path / "run"
    settings = [f"model={tiny_policy_folder}", f"data={data}", f"run={folder}"]
    run("run.py", *settings)
    table = (folder / "table.md").read_text()
    for policy in ("sft", "ppo", "ppo-final", "ppo-no-kl", "ppo-no-kl-final", "dpo", "best-of-n"):
        assert f"| {policy} |" in table
    assert [line.split("|")[2].strip() for line in table.splitlines() if line.startswith("| ppo-no-kl | ")][1:] == [
        "0",
        "2",
    ]
    assert (folder / "report.html").exists()

    before = (folder / "reward" / "summary.json").read_bytes()
    run("splits.py", *settings)
    assert (folder / "reward" / "summary.json").read_bytes() == before  # what run.py made is taken as it is
    table = (folder / "splits" / "splits.md").read_text()
    for policy in ("sft", "upper-2", "lora", "all"):
        assert f"| {policy} |" in table
    assert read_summary(folder / "splits" / "all")["steps"] == 2
