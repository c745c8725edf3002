"""A small PPO task on a tiny random model, shared by the tests of the recipe."""

import json
from pathlib import Path
from typing import Any

from plaudit.core.run import read_log
from plaudit.training.ppo_config import PPOConfig

RULES = '''
"""Rewards and judges of the tests."""
calls = []

def early(prompts, responses):
    """Share of letters from the first half of the alphabet, times 4."""
    return [4 * sum(c in "abcdefghijklm" for c in r) / max(1, len(r)) for r in responses]

def early_judge(prompts, responses):
    return [score / 4 for score in early(prompts, responses)]

def peak(prompts, responses):
    """Likes the third policy it sees best, whatever it says."""
    calls.append(None)
    return [[0.0, 1.0, 5.0, 2.0, 1.0][len(calls) - 1]] * len(responses)

def falling(prompts, responses):
    """Likes every policy less than the one before."""
    calls.append(None)
    return [-float(len(calls))] * len(responses)

def shy(prompts, responses):
    """Has no opinion on every other answer, and finds the others worth 100 or 101."""
    return [None if i % 2 else 100.0 + i % 4 / 2 for i in range(len(responses))]

def silent(prompts, responses):
    return [None] * len(responses)

def flat(prompts, responses):
    return [0.5] * len(responses)
'''


def write_task(folder: Path, *, prompts: int = 80) -> Path:
    """Prompts and rules in a new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"prompt": f"name fruit number {i} please"}) for i in range(prompts)]
    (folder / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "rules.py").write_text(RULES)
    return folder


def rule(task: Path, name: str) -> str:
    """The spec of one of the rules."""
    return f"{task / 'rules.py'}:{name}"


def settings(task: Path, policy: Path, run: str = "run", **overrides: Any) -> PPOConfig:
    """A run of seconds: 8 tokens an answer, float32, the upper half of the layers."""
    values: dict[str, Any] = {
        "run": task / run,
        "policy": str(policy),
        "reward": rule(task, "early"),
        "judge": rule(task, "early_judge"),
        "prompts": str(task / "prompts.jsonl"),
        "held_out": 0.4,
        "iterations": 2,
        "prompts_per_iteration": 8,
        "sampling": {"max_new_tokens": 8},
        "train_layers": 2,
        "lr": 3e-3,
        "schedule": "constant",
        "precision": "float32",
        "eval_every": 2,
        "missing_eos": {"mode": "none"},
    }
    return PPOConfig(**(values | overrides))


def rows_of(run: Path, *, evaluated: bool = False) -> list[dict[str, Any]]:
    """Metrics of the iterations, or of the moments that were judged."""
    rows = read_log(run, "metrics")
    return [row for row in rows if "held_out_kl" in row] if evaluated else [row for row in rows if row["step"] > 0]


def judged(run: Path, step: int) -> list[float]:
    """The judge's scores of the held-out answers at a step, prompt by prompt."""
    samples = read_log(run, "samples")
    return [row["judge"] for row in samples if row["kind"] == "held out" and row["step"] == step]
