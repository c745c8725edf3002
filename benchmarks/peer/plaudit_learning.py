"""Plaudit's side of `benchmarks.learning`: the PPO recipe, with a hook that stops the clock and saves the policy.

    python -m benchmarks.peer.plaudit_learning FOLDER BEGAN     # FOLDER/settings.json says the rest

The learning rate is constant, so that a point of the curve does not depend on where the run was to end. The run is left
by an exception after its last round: its export and its judging of held-out prompts are no part of training.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks.peer import workload
from benchmarks.peer.stopwatch import Course

from plaudit.core.progress import be_quiet
from plaudit.models.export import save_policy
from plaudit.training import ppo
from plaudit.training.loop import Moment
from plaudit.training.ppo_config import PPOConfig


class EnoughError(Exception):
    """Raised by the hook after the last round."""


def main() -> None:
    folder, began = Path(sys.argv[1]), float(sys.argv[2])
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    own = settings["plaudit"]
    torch.set_num_threads(settings["threads"])
    be_quiet()
    course = Course(folder / "plaudit", own["at"], began)
    expected = workload.in_steps(workload.read(folder, "prompts"), settings["prompts"] * settings["answers"])
    follow(course, [[row["input_ids"] for row in rows[:: settings["answers"]]] for rows in expected])

    def note(moment: Moment) -> None:
        if (target := course.target(moment.step)) is not None:
            save_policy(moment.model, target)
        course.note(moment.step)
        if moment.step == course.last:
            raise EnoughError
        course.start()

    with tempfile.TemporaryDirectory() as run:
        try:
            ppo.train(config(settings, folder, Path(run) / "run"), hooks=[note])
        except EnoughError:
            return
    raise SystemExit(f"The run ended before round {course.last}")


def config(settings: dict[str, Any], folder: Path, run: Path) -> PPOConfig:
    """The settings of the E2E example. Two prompts are judged before the first round: the recipe wants some."""
    own = settings["plaudit"]
    return PPOConfig.model_validate(
        {
            "run": run,
            "policy": settings["sft"],
            "reward": settings["reward"],
            "judge": "none",
            "prompts": settings["train"],
            "eval_prompts": str(folder / "held-out.jsonl"),
            "eval_limit": 2,
            "eval_every": own["at"][-1] + 1,
            "iterations": own["at"][-1] + 1,
            "prompts_per_iteration": settings["prompts"],
            "sampling": {"n": settings["answers"], "max_new_tokens": settings["new_tokens"]},
            "kl": {"coef": settings["kl_coef"], "estimator": "k1"},
            "missing_eos": {"mode": "subtract", "value": settings["missing_eos"]},
            "epochs": settings["epochs"],
            "minibatches": settings["minibatches"],
            "lr": own["lr"],
            "schedule": "constant",
            "train_layers": own["train_layers"],
            "precision": "bfloat16",
            "checkpoint_every": 10**6,
            "seed": settings["seed"],
        }
    )


def follow(course: Course, expected: Sequence[Sequence[Sequence[int]]]) -> None:
    """Start the clock where the first round samples, and see that each round takes the prompts that the peer takes."""
    original = ppo.sample
    rounds = iter(expected)

    def noting(policy: Any, prompts: Sequence[tuple[int, ...]], *args: Any, **kwargs: Any) -> Any:
        course.start()
        if [list(prompt) for prompt in prompts] != next(rounds):
            raise SystemExit("Plaudit samples other prompts than those written for the peer")
        return original(policy, prompts, *args, **kwargs)

    ppo.sample = noting


if __name__ == "__main__":
    main()
