"""People's demonstrations and rankings to a better policy, with every comparison a reader would ask for.

    python examples/e2e/run.py data=FOLDER [run=runs/e2e] [seed=0]

SFT on people's sentences; a reward ensemble from the rankings of one half of the labelers and a judge from the other
half; PPO with a KL penalty and without one; DPO on the same rankings; best-of-8. All are compared with the SFT model on
prompts that no stage has seen, by a rule that counts facts and by the judge. Each stage is a run folder: the same
command goes on after an interruption and repeats nothing. Without data=, the folder is `e2e` in PLAUDIT_DATA.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from course import course_table
from data import Files, prepare
from pydantic import Field
from table import compare, policy_table

from plaudit.core.config import Config, load_config
from plaudit.core.errors import PlauditError
from plaudit.core.files import atomic_write
from plaudit.core.progress import say
from plaudit.evaluation import reward_audit
from plaudit.reports.report import build
from plaudit.rollouts.answers import SampleConfig, generate
from plaudit.rollouts.sampling import Sampling
from plaudit.training import dpo, ppo, reward, sft
from plaudit.training.dpo_config import DPOConfig
from plaudit.training.ppo_config import KLSettings, PPOConfig
from plaudit.training.reward_config import RewardConfig
from plaudit.training.sft_config import SFTConfig


class E2EConfig(Config):
    """Settings of the example; the defaults are those of the table in the README."""

    data: Path = Field(
        default_factory=lambda: Path(os.environ.get("PLAUDIT_DATA", "../shared/data")) / "e2e",
        description="Folder with demonstrations.jsonl.gz and rankings.jsonl.gz of the E2E NLG Challenge.",
    )
    run: Path = Field(Path("runs/e2e"), description="Folder of the stages' run folders.")
    model: str = Field("smollm2", description="Language model to start from.")
    seed: int = Field(0, ge=0, description="Every random number derives from it.")
    train_layers: int = Field(8, ge=1, description="Layers of reward models, PPO and DPO that train.")
    test_prompts: int = Field(96, ge=2, description="Prompts that no stage sees before the final comparison.")
    choose_prompts: int = Field(48, ge=2, description="Prompts on which the judge chooses PPO's checkpoint.")
    demonstrations: int = Field(2, ge=1, description="Demonstrations of one prompt that SFT uses, at most.")
    max_new_tokens: int = Field(80, ge=4, description="Longest answer in tokens.")
    test_answers: int = Field(4, ge=1, description="Answers of each model to a test prompt.")
    sft_lr: float = Field(1e-4, gt=0, description="Peak learning rate of SFT.")
    reward_lr: float = Field(
        1e-4, gt=0, description="Peak learning rate of the reward models; their heads take ten times it."
    )
    reward_epochs: int = Field(2, ge=1, description="Passes over the rankings.")
    members: int = Field(3, ge=1, description="Reward models in the ensemble.")
    iterations: int = Field(30, ge=1, description="Rounds of each PPO run.")
    ppo_lr: float = Field(1e-4, gt=0, description="Learning rate of PPO.")
    kl_coef: float = Field(0.05, ge=0, description="Weight of the KL penalty; a second run has 0.")
    dpo_lr: float = Field(1e-5, gt=0, description="Peak learning rate of DPO.")
    best_of: int = Field(8, ge=2, description="Answers that best-of-n draws for each one it keeps.")


def run(config: E2EConfig) -> Path:
    """Run the example, or what is left of it; returns its folder."""
    files = first_stages(config)
    steps: list[tuple[str, Callable[[], object]]] = [
        ("PPO with a KL penalty", lambda: ppo.train(ppo_settings(config, files, "ppo", config.kl_coef))),
        ("PPO without a KL penalty", lambda: ppo.train(ppo_settings(config, files, "ppo-no-kl", 0.0))),
        ("DPO on the same rankings", lambda: dpo.train(_dpo(config, files))),
        ("answers to the test prompts", lambda: _answer(config, files)),
        ("comparison", lambda: _compare(config)),
        ("tables and report", lambda: (_write_tables(config.run), build([config.run]))),
    ]
    _take(steps, first=4)
    say(f"Tables: {config.run / 'table.md'}. Report: {config.run / 'report.html'}.")
    return config.run


def first_stages(config: E2EConfig) -> Files:
    """The data, and the models that everything after starts from: SFT, reward ensemble, judge."""
    files = prepare(
        config.data,
        config.run / "data",
        seed=config.seed,
        choose=config.choose_prompts,
        test=config.test_prompts,
        demonstrations=config.demonstrations,
    )
    steps: list[tuple[str, Callable[[], object]]] = [
        ("SFT on people's sentences", lambda: sft.train(_sft(config, files))),
        ("reward ensemble, one half of the labelers", lambda: _reward(config, files)),
        ("judge, the other half", lambda: _judge(config, files)),
    ]
    _take(steps, first=1)
    return files


def _take(steps: list[tuple[str, Callable[[], object]]], *, first: int) -> None:
    for number, (title, step) in enumerate(steps, start=first):
        say(f"\n[{number}] {title}", style="bold")
        step()


def _sft(config: E2EConfig, files: Files) -> SFTConfig:
    return SFTConfig(
        run=config.run / "sft", model=config.model, data=str(files.sft), epochs=1, lr=config.sft_lr, seed=config.seed
    )


def _reward(config: E2EConfig, files: Files) -> Path:
    settings = RewardConfig(
        run=config.run / "reward",
        data=str(files.reward),
        eval_data=str(files.reward_test),
        members=config.members,
        **_scalar(config, files),
    )
    return reward.train(settings, audit=reward_audit.audit)


def _judge(config: E2EConfig, files: Files) -> Path:
    settings = RewardConfig(
        run=config.run / "judge", data=str(files.judge), eval_data=str(files.judge_test), **_scalar(config, files)
    )
    return reward.train(settings, audit=reward_audit.audit)


def _scalar(config: E2EConfig, files: Files) -> dict[str, Any]:
    """What the reward model and the judge share."""
    return {
        "model": str(config.run / "sft"),
        "normalise_on": str(files.sft),
        "epochs": config.reward_epochs,
        "batch_size": 8,
        "lr": config.reward_lr,
        "head_lr": 10 * config.reward_lr,
        "train_layers": config.train_layers,
        "seed": config.seed,
    }


def ppo_settings(config: E2EConfig, files: Files, name: str, kl_coef: float) -> PPOConfig:
    """PPO from the SFT model, in the run folder of this name."""
    return PPOConfig(
        run=config.run / name,
        policy=str(config.run / "sft"),
        reward=str(config.run / "reward"),
        judge=str(config.run / "judge"),
        prompts=str(files.ppo),
        eval_prompts=str(files.choose),
        iterations=config.iterations,
        prompts_per_iteration=16,
        sampling=sampling_settings(config, 4),
        kl=KLSettings.model_validate({"coef": kl_coef}),
        epochs=2,
        minibatches=2,
        lr=config.ppo_lr,
        train_layers=config.train_layers,
        eval_every=5,
        eval_samples=2,
        keep_final=True,
        seed=config.seed,
    )


def _dpo(config: E2EConfig, files: Files) -> DPOConfig:
    return DPOConfig(
        run=config.run / "dpo",
        policy=str(config.run / "sft"),
        data=str(files.reward),
        eval_data=str(files.reward_test),
        lr=config.dpo_lr,
        epochs=2,
        train_layers=config.train_layers,
        seed=config.seed,
    )


def _policies(config: E2EConfig) -> dict[str, dict[str, Any]]:
    """Name of each contestant, and how its answers are drawn. PPO's "final" is the last step, not the chosen one."""
    best_of = {"best_of": config.best_of, "reward": str(config.run / "reward")}
    return {
        "sft": {"model": str(config.run / "sft")},
        "ppo": {"model": str(config.run / "ppo")},
        "ppo-final": {"model": str(config.run / "ppo" / "model-final")},
        "ppo-no-kl": {"model": str(config.run / "ppo-no-kl")},
        "ppo-no-kl-final": {"model": str(config.run / "ppo-no-kl" / "model-final")},
        "dpo": {"model": str(config.run / "dpo")},
        "best-of-n": {"model": str(config.run / "sft"), **best_of},
    }


def _answer(config: E2EConfig, files: Files) -> None:
    for name, how in _policies(config).items():
        settings = SampleConfig(
            run=config.run / f"test-{name}",
            prompts=str(files.test),
            sampling=sampling_settings(config, config.test_answers),
            seed=config.seed,
            **how,
        )
        generate(settings)


def _compare(config: E2EConfig) -> Path:
    return compare(config.run, policies=list(_policies(config)), models=config.run, seed=config.seed)


def _write_tables(run: Path) -> None:
    tables = [policy_table(run), course_table([run / "ppo", run / "ppo-no-kl"])]
    atomic_write(run / "table.md", "\n\n".join(tables) + "\n")
    say("\n\n".join(tables))


def sampling_settings(config: E2EConfig, n: int) -> Sampling:
    """How n answers to a prompt are drawn."""
    return Sampling.model_validate({"n": n, "max_new_tokens": config.max_new_tokens})


if __name__ == "__main__":
    try:
        run(load_config(E2EConfig, None, sys.argv[1:]))
    except PlauditError as error:
        sys.exit(str(error))
