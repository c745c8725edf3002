"""`plaudit sft`, `reward`, `ppo` and `dpo`: the recipes, from the command line."""

from pathlib import Path
from typing import Any

from plaudit.cli.command import Command, Outcome
from plaudit.core.config import Config
from plaudit.core.run import read_summary

PANEL = "Train"


def _sft_settings() -> type[Config]:
    from plaudit.training.sft_config import SFTConfig

    return SFTConfig


def _run_sft(config: Any) -> Outcome:
    from plaudit.training.sft import train

    return _finished(train(config))


def _reward_settings() -> type[Config]:
    from plaudit.training.reward_config import RewardConfig

    return RewardConfig


def _run_reward(config: Any) -> Outcome:
    from plaudit.evaluation.reward_audit import audit
    from plaudit.training.reward import train

    return _finished(train(config, audit=audit))


def _ppo_settings() -> type[Config]:
    from plaudit.training.ppo_config import PPOConfig

    return PPOConfig


def _run_ppo(config: Any) -> Outcome:
    from plaudit.training.ppo import train

    return _finished(train(config))


def _dpo_settings() -> type[Config]:
    from plaudit.training.dpo_config import DPOConfig

    return DPOConfig


def _run_dpo(config: Any) -> Outcome:
    from plaudit.training.dpo import train

    return _finished(train(config))


def _finished(run: Path) -> Outcome:
    """Scripts read the folder's name on standard output; people have read the figures on standard error already."""
    return Outcome({"run": str(run), "model": str(run / "model"), "summary": read_summary(run)}, str(run))


SFT = Command(
    "sft",
    "Fine-tune a model on demonstrations: prompts with ideal answers.",
    (
        "plaudit sft model=smollm2 data=demonstrations.jsonl run=runs/sft",
        "plaudit sft model=runs/first data=more.jsonl run=runs/second lr=1e-5 epochs=1 lora.rank=16",
    ),
    _sft_settings,
    _run_sft,
    PANEL,
)
REWARD = Command(
    "reward",
    "Train a reward model on rankings or comparisons of answers.",
    (
        "plaudit reward model=runs/sft data=rankings.jsonl run=runs/reward",
        "plaudit reward --config reward.yaml seed=1 run=runs/reward-1",
    ),
    _reward_settings,
    _run_reward,
    PANEL,
)
PPO = Command(
    "ppo",
    "Train a policy against a reward model, held near the SFT model by a KL penalty.",
    (
        "plaudit ppo policy=runs/sft reward=runs/reward prompts=prompts.jsonl judge=judge.py:score run=runs/ppo",
        "plaudit ppo policy=runs/sft reward=[runs/r0,runs/r1] prompts=p.jsonl judge=none run=runs/ppo kl.coef=0.1",
    ),
    _ppo_settings,
    _run_ppo,
    PANEL,
)
DPO = Command(
    "dpo",
    "Train a policy directly on rankings or comparisons, without a reward model.",
    ("plaudit dpo policy=runs/sft data=rankings.jsonl run=runs/dpo",),
    _dpo_settings,
    _run_dpo,
    PANEL,
)
