"""Seconds of a PPO iteration: 32 prompts, 48 new tokens, 4 passes, SmolLM2-135M as policy, reference, value and reward.

    python benchmarks/ppo_iteration.py --workload FOLDER            # has prompts.jsonl; or set PLAUDIT_PEER
    python benchmarks/ppo_iteration.py --workload FOLDER --train-layers all --iterations 3

Prints one JSON line for each `--train-layers`. Seconds are wall-clock from the end of one iteration to the end of the
next, without the judging at the end; the median over iterations after a warm-up. `tokens_per_s` counts each sampled
token and its prompt once. Run it on an idle machine: two threads that share a core wait for each other.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from plaudit.core.files import read_jsonl, write_jsonl
from plaudit.core.progress import be_quiet
from plaudit.core.run import read_log, read_summary
from plaudit.datasets.read import read_prompts
from plaudit.datasets.render import Renderer
from plaudit.models.export import save_reward
from plaudit.models.load import load_tokenizer, new_reward, resolve_model
from plaudit.models.precision import FLOAT32
from plaudit.training.loop import Moment
from plaudit.training.ppo import prompts_of, train
from plaudit.training.ppo_config import PPOConfig

PROMPTS, NEW_TOKENS, EPOCHS = 32, 48, 4


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    be_quiet()
    for train_layers in options.train_layers:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(options, train_layers, Path(folder))), flush=True)


def measure(options: argparse.Namespace, train_layers: str, folder: Path) -> dict[str, Any]:
    """One PPO run of a warm-up and `options.iterations` timed iterations."""
    iterations = options.iterations + 1
    rows = list(read_jsonl(options.workload / "prompts.jsonl"))
    needed = PROMPTS * iterations
    assert len(rows) >= needed + 2, f"{options.workload} holds {len(rows)} prompts; {needed + 2} are needed"
    write_jsonl(folder / "prompts.jsonl", [{"prompt": row["prompt"]} for row in rows[:needed]])
    write_jsonl(folder / "eval.jsonl", [{"prompt": row["prompt"]} for row in rows[-2:]])
    config = PPOConfig.model_validate(
        {
            "run": folder / "run",
            "policy": options.model,
            "reward": str(reward_model(options.model, folder / "reward")),
            "prompts": str(folder / "prompts.jsonl"),
            "eval_prompts": str(folder / "eval.jsonl"),
            "judge": "none",
            "iterations": iterations,
            "prompts_per_iteration": PROMPTS,
            "sampling": {"max_new_tokens": NEW_TOKENS},
            "epochs": EPOCHS,
            "train_layers": train_layers if train_layers == "all" else int(train_layers),
            "lr": 3e-6,
            "precision": options.precision,
            "micro_tokens": options.micro_tokens,
            "eval_every": iterations,
            "checkpoint_every": 10**6,
            "seed": options.seed,
        }
    )
    ends: list[float] = []

    def note(_: Moment) -> None:
        ends.append(time.perf_counter())

    run = train(config, hooks=[note])
    timings = [row for row in read_log(run, "timings") if row["step"] > 0]
    metrics = [row for row in read_log(run, "metrics") if row["step"] > 0]
    walls = [b - a for a, b in itertools.pairwise(ends)]
    walls[-1] -= timings[-1]["judge"]
    prompt_tokens = prompt_lengths(options.model, folder / "prompts.jsonl")
    orders = [prompts_of(i, rows=len(prompt_tokens), count=PROMPTS, seed=options.seed) for i in range(1, iterations)]
    responses = [round(row["response_length"] * PROMPTS) for row in metrics[1:]]
    tokens = [sum(prompt_tokens[i] for i in order) + n for order, n in zip(orders, responses, strict=True)]
    phases = {name: [row[name] for row in timings[1:]] for name in ("sample", "score", "measure", "train")}
    return {
        "benchmark": "ppo_iteration",
        "train_layers": train_layers,
        "value_start": read_summary(run)["value_start"],
        "precision": options.precision,
        "threads": options.threads,
        "prompts": PROMPTS,
        "new_tokens": NEW_TOKENS,
        "epochs": EPOCHS,
        "seconds": round(statistics.median(walls), 2),
        "seconds_all": [round(wall, 2) for wall in walls],
        "phases": {name: round(statistics.median(seconds), 2) for name, seconds in phases.items()},
        "response_tokens": responses,
        "tokens_per_s": round(statistics.median(n / wall for n, wall in zip(tokens, walls, strict=True)), 1),
        "sampled_tokens_per_s": round(
            statistics.median(n / s for n, s in zip(responses, phases["sample"], strict=True)), 1
        ),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def reward_model(base: str, folder: Path) -> Path:
    """A reward model on the same weights with a random head: its scores mean nothing, its cost is real."""
    fresh = new_reward(base, precision=FLOAT32, seed=0)
    save_reward(fresh.with_head(fresh.head), folder, pad_id=Renderer(fresh.tokenizer).pad_id)
    return folder


def prompt_lengths(model: str, file: Path) -> list[int]:
    """Tokens of each prompt."""
    renderer = Renderer(load_tokenizer(resolve_model(model)))
    return [len(renderer.prompt_ids(row.prompt)) for row in read_prompts(file).rows]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    peer = os.environ.get("PLAUDIT_PEER")
    parser.add_argument("--workload", type=Path, default=Path(peer) / "workload" if peer else None)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--train-layers", nargs="+", default=["8", "all"])
    parser.add_argument("--iterations", type=int, default=3, help="timed iterations; one more is run first as warm-up")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "2")))
    parser.add_argument("--micro-tokens", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.workload is None:
        parser.error("give --workload=FOLDER with prompts.jsonl, or set PLAUDIT_PEER")
    return options


if __name__ == "__main__":
    main()
