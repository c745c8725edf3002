"""What the split costs and gains: PPO on the upper 8 layers, by LoRA on all layers, and on all layers themselves.

    python examples/e2e/splits.py data=FOLDER [run=runs/e2e] [seed=0]

Takes the SFT model, the reward ensemble and the judge of `run.py` in the same folder, and trains them first if they are
not there. The three runs see the same prompts in the same order and differ in what trains and in the learning rate that
goes with it. Compared on the test prompts as in `run.py`; `splits.md` in the folder holds both tables.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import run as example
from course import course_table
from data import Files
from pydantic import Field
from table import compare, policy_table

from plaudit.core.config import load_config
from plaudit.core.errors import PlauditError
from plaudit.core.files import atomic_write
from plaudit.core.progress import say
from plaudit.models.lora import LoraConfig
from plaudit.reports.report import build
from plaudit.rollouts.answers import SampleConfig, generate
from plaudit.training import ppo
from plaudit.training.ppo_config import PPOConfig


class SplitsConfig(example.E2EConfig):
    """Settings of the comparison: those of the example, with fewer rounds."""

    iterations: int = Field(15, ge=1, description="Rounds of each PPO run.")
    all_lr: float = Field(3e-5, gt=0, description="Learning rate where all layers train.")
    lora_lr: float = Field(3e-4, gt=0, description="Learning rate of the adapters.")


def run(config: SplitsConfig) -> Path:
    """Run the comparison, or what is left of it; returns its folder."""
    files = example.first_stages(config)
    folder = config.run / "splits"
    for name, changes in _splits(config).items():
        say(f"\nPPO, {name}", style="bold")
        ppo.train(_ppo(config, files, name, changes))
    policies = {"sft": config.run / "sft"} | {name: folder / name for name in _splits(config)}
    for name, model in policies.items():
        generate(
            SampleConfig(
                run=folder / f"test-{name}",
                model=str(model),
                prompts=str(files.test),
                sampling=example.sampling_settings(config, config.test_answers),
                seed=config.seed,
            )
        )
    compare(folder, policies=list(policies), models=config.run, seed=config.seed)
    tables = [policy_table(folder), course_table([folder / name for name in _splits(config)])]
    atomic_write(folder / "splits.md", "\n\n".join(tables) + "\n")
    build([folder])
    say("\n\n".join(tables))
    say(f"Tables: {folder / 'splits.md'}. Report: {folder / 'report.html'}.")
    return folder


def _splits(config: SplitsConfig) -> dict[str, dict[str, Any]]:
    """What trains, and how fast, in each run."""
    return {
        f"upper-{config.train_layers}": {"train_layers": config.train_layers, "lr": config.ppo_lr},
        "lora": {"train_layers": "all", "lora": LoraConfig(), "lr": config.lora_lr},
        "all": {"train_layers": "all", "lr": config.all_lr},
    }


def _ppo(config: SplitsConfig, files: Files, name: str, changes: dict[str, Any]) -> PPOConfig:
    settings = example.ppo_settings(config, files, f"splits/{name}", config.kl_coef)
    return PPOConfig.model_validate(settings.model_dump() | changes)


if __name__ == "__main__":
    try:
        run(load_config(SplitsConfig, None, sys.argv[1:]))
    except PlauditError as error:
        sys.exit(str(error))
