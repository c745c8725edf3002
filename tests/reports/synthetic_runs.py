"""Run folders with known numbers, written through the real `Run`, one function a stage."""

import math
import random
from pathlib import Path

from pydantic import Field

from plaudit.core.config import Config
from plaudit.core.files import sha256_tree
from plaudit.core.run import Run

HOSTILE = (
    "<script>alert('x')</script>\x00\x1b[31m\u202egnp.exe\u2066 </textarea><img src=x onerror=alert(1)> & \ud800 \"'"
)


class KL(Config):
    coef: float = Field(0.05, description="KL coefficient.")


class SyntheticConfig(Config):
    run: Path = Field(description="Run folder.")
    model: str = Field("smollm2", description="Start.")
    policy: str = Field("runs/sft", description="Start.")
    reward: str = Field("runs/reward", description="Training reward.")
    judge: str = Field("rule.py:score", description="Judge.")
    kl: KL = Field(KL(), description="KL penalty.")
    seed: int = Field(7, description="Seed.")


def interval(value: float, half: float, n: int = 400) -> dict[str, float | int]:
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def write_sft(path: Path) -> None:
    noise = random.Random(1)
    inputs = {"model": "a" * 64, "data": "b" * 64}
    with Run.open(path, stage="sft", config=SyntheticConfig(run=path), inputs=inputs) as run:
        (path / "model").mkdir()
        (path / "model" / "config.json").write_text("{}")
        run.log(0, held_out_loss=2.61, held_out_loss_low=2.5, held_out_loss_high=2.72)
        for step in range(1, 401):
            loss = 1.7 + 0.9 * math.exp(-step / 60) + 0.06 * noise.gauss(0, 1)
            run.log(step, loss=loss, lr=1e-5 * math.cos(step / 400), grad_norm=1 + 0.2 * noise.random(), tokens=900)
            run.log_time(step, step_seconds=0.8)
            if step % 100 == 0:
                held_out = 1.78 + 0.8 * math.exp(-step / 60)
                run.log(
                    step, held_out_loss=held_out, held_out_loss_low=held_out - 0.09, held_out_loss_high=held_out + 0.09
                )
        run.finish(
            {
                "stage": "sft",
                "data": {
                    "train": {"rows": 1600, "prompts": 1400, "used": 1580, "left_out": {"longer than 512 tokens": 20}},
                    "held_out": {"rows": 160, "prompts": 140, "used": 160, "left_out": {}},
                    "notes": ["3 duplicate rows"],
                },
                "held_out_loss": {
                    "before": interval(2.61, 0.11),
                    "after": interval(1.78, 0.09),
                    "change": interval(-0.83, 0.05),
                },
            }
        )


def write_reward(path: Path, *, parent: str = "c" * 64) -> None:
    noise = random.Random(2)
    inputs = {"model": parent, "data": "d" * 64}
    with Run.open(path, stage="reward", config=SyntheticConfig(run=path, model="runs/sft"), inputs=inputs) as run:
        for step in range(1, 121):
            loss = 0.5 + 0.19 * math.exp(-step / 30) + 0.03 * noise.gauss(0, 1)
            run.log(
                step, loss=loss, accuracy=0.74 - 0.2 * math.exp(-step / 25) + 0.03 * noise.gauss(0, 1), grad_norm=2.0
            )
            run.log_time(step, step_seconds=1.4)
        accuracies = [interval(a, 0.03) for a in (0.56, 0.67, 0.76, 0.88)]
        run.finish(
            {
                "held_out": {"prompts": 210, "strict_pairs": 1840, "unscored_pairs": 3},
                "accuracy": interval(0.733, 0.019, 1840),
                "baselines": {
                    "length_direction": "longer",
                    "longer_wins": {"accuracy": interval(0.551, 0.02), "model_gain": interval(0.182, 0.025)},
                    "length": {"accuracy": interval(0.551, 0.02), "model_gain": interval(0.182, 0.025)},
                    "bag_of_words": {"accuracy": interval(0.68, 0.02), "model_gain": interval(0.053, 0.018)},
                },
                "labelers": {
                    "count": 3,
                    "agreement": interval(0.74, 0.02),
                    "model_agreement": interval(0.75, 0.02),
                    "ceiling_if_independent": 0.846,
                },
                "calibration": {
                    "ece": 0.031,
                    "brier": 0.19,
                    "bins": [
                        {"confidence": c, "frequency": c - 0.2 * (c - 0.5), "count": 100}
                        for c in (0.55, 0.65, 0.75, 0.85, 0.95)
                    ],
                },
                "accuracy_by": {
                    "score_gap": [{"from": i, "to": i + 1, **a} for i, a in enumerate(accuracies)],
                    "margin": [],
                },
                "length": {"correlation_within_prompt": 0.12},
                "ensemble": {
                    "members": 3,
                    "accuracy": [interval(0.72, 0.02)] * 3,
                    "accuracy_unanimous": interval(0.79, 0.02),
                    "accuracy_divided": interval(0.55, 0.04),
                },
                "data": {"train_prompts": 690, "train_pairs": 6400, "left_out": {"all answers tied": 4}, "notes": []},
            }
        )


def write_ppo(path: Path, *, coef: float = 0.05, finish: bool = True, steps: int = 60) -> None:
    """The judge peaks at sqrt(KL) = 2 and falls; the reward goes on rising; KL is the square of step / 15."""
    noise = random.Random(3)
    config = SyntheticConfig(run=path, kl=KL(coef=coef))
    sft = path.parent / "sft" / "model"
    inputs = {"policy": sha256_tree(sft), "reward 1": "e" * 64, "prompts": "f" * 64}
    with Run.open(path, stage="ppo", config=config, inputs=inputs) as run:
        for step in range(steps + 1):
            d = step / 15
            row = {"reward": 0.1 + 0.55 * d + 0.03 * noise.gauss(0, 1), "kl": d * d, "entropy": 2.1 - 0.2 * d}
            row |= {"response_length": 40 + 4 * d, "clipped_length": 0.02, "explained_variance": min(0.8, 0.2 * d)}
            row |= {
                "clip_fraction": 0.1,
                "kl_coefficient": coef,
                "ensemble_spread": 0.1 + 0.05 * d * d,
                "policy_loss": -0.01,
                "value_loss": 0.2,
            }
            run.log(step, **row)
            run.log_time(step, sampling=9.2, scoring=0.4, update=7.7)
            if step % 5 == 0:
                judge = 1.0 + d * (0.8 - 0.2 * d)
                run.log(
                    step,
                    judge=judge,
                    judge_low=judge - 0.12,
                    judge_high=judge + 0.12,
                    held_out_reward=0.1 + 0.5 * d,
                    held_out_kl=d * d,
                )
                for prompt in range(8):
                    run.sample(
                        step,
                        kind="held out",
                        prompt=[{"role": "user", "content": f"Question {prompt}: how do I keep basil fresh?"}],
                        response=HOSTILE if prompt == 0 else f"Answer of step {step}: stand the stems in water.",
                        judge=judge + 0.1 * noise.gauss(0, 1),
                        reward=0.1 + 0.5 * d,
                        stopped=True,
                    )
        if finish:
            run.finish(
                {
                    "best_step": 30,
                    "kl": 4.0,
                    "reward": {
                        "name": "runs/reward",
                        "start": interval(0.1, 0.05),
                        "best": interval(1.1, 0.05),
                        "difference": interval(1.0, 0.04),
                    },
                    "judge": {
                        "name": "rule.py:score",
                        "start": interval(1.0, 0.12),
                        "best": interval(1.8, 0.12),
                        "difference": interval(0.8, 0.1),
                    },
                    "warnings": [
                        {
                            "check": "kl",
                            "first_step": 55,
                            "steps": 3,
                            "message": "The sequence KL is large; raise kl.coef.",
                        }
                    ],
                }
            )


def write_dpo(path: Path) -> None:
    inputs = {"policy": "c" * 64, "data": "d" * 64}
    with Run.open(path, stage="dpo", config=SyntheticConfig(run=path), inputs=inputs) as run:
        for step in range(1, 41):
            row = {"loss": 0.69 - 0.005 * step, "accuracy": 0.5 + 0.005 * step, "margin": 0.02 * step}
            row |= {"chosen_reward": -0.01 * step, "rejected_reward": -0.03 * step, "lr": 1e-6, "grad_norm": 3.0}
            run.log(step, **row, chosen_log_prob=-40 - 0.1 * step, rejected_log_prob=-42 - 0.3 * step)
            run.log_time(step, step_seconds=1.1)
        accuracy = {"held_out_accuracy": 0.66, "held_out_accuracy_low": 0.61, "held_out_accuracy_high": 0.71}
        run.log(40, **accuracy, held_out_margin=0.7)
        run.finish({"stage": "dpo", "held_out": {"accuracy": interval(0.66, 0.05), "margin": interval(0.7, 0.1)}})


def write_evaluation(path: Path) -> None:
    noise = random.Random(4)
    with Run.open(
        path, stage="evaluate", config=SyntheticConfig(run=path), inputs={"a": "1" * 64, "b": "c" * 64}
    ) as run:
        for i in range(40):
            run.sample(
                0,
                prompt=f"How long does rice keep? ({i})",
                a="ppo",
                b="sft",
                answer_a=HOSTILE if i % 2 else "Four days in the fridge.\nCool it within two hours.",
                answer_b="It depends.",
                score_a=noise.gauss(1, 1) if i else None,
                score_b=noise.gauss(0, 1),
            )
        run.finish(
            {
                "notice": "The labelers of this run are simulated.",
                "comparisons": [
                    {
                        "a": "ppo",
                        "b": "sft",
                        "judge": name,
                        "independent": independent,
                        "rate": interval(0.712, 0.047),
                        "wins": 270,
                        "ties": 30,
                        "losses": 100,
                        "unscored": 2,
                        "changed": 0,
                        "prompts": 100,
                        "length_controlled": interval(0.69, 0.05),
                        "score_difference": interval(0.8, 0.2),
                        "mean_length_a": 120.0,
                        "mean_length_b": 96.0,
                    }
                    for name, independent in (("reward model", False), ("true preference", True))
                ],
            }
        )
