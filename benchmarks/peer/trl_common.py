"""What the TRL scripts share: options, a clock for steps and phases, and the line they print. Runs in the peer's venv.

A script runs one warm-up step and `--steps` timed ones, and prints one JSON line: seconds, tokens and phases of each
step, with the shapes that went through the model, so that the harness can count what work was needed.
"""

import argparse
import collections
import json
import os
import resource
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

warnings.filterwarnings("ignore")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))

import transformers  # noqa: E402

import datasets  # noqa: E402  (the threads are set first)

transformers.logging.set_verbosity_error()
datasets.disable_progress_bars()
datasets.disable_caching()

# Weights and autocast. `autocast` is TRL's default: float32 weights, products in bfloat16.
FORMATS = {"bf16": ("bfloat16", False), "autocast": ("float32", True)}
PAD = "<|endoftext|>"  # the tokenizer's own padding token ends turns, so it stands inside prompts


def options(batch: int, **more: Any) -> argparse.Namespace:
    """The options of every script; `more` are further defaults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--workload", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--micro-batches", type=int, default=1, help="in which a step is taken")
    parser.add_argument("--format", choices=FORMATS, default="bf16")
    parser.add_argument("--attention", default="sdpa")
    for name, default in more.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    return parser.parse_args()


def training_arguments(chosen: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """Arguments of a trainer that trains and does nothing else."""
    return {
        "output_dir": tempfile.mkdtemp(prefix="peer-"),
        "use_cpu": True,
        "bf16": FORMATS[chosen.format][1],
        "per_device_train_batch_size": chosen.batch // chosen.micro_batches,
        "gradient_accumulation_steps": chosen.micro_batches,
        "max_steps": chosen.steps + 1,
        "seed": 0,
        "report_to": "none",
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "lr_scheduler_type": "constant",
        **more,
    }


def loading(chosen: argparse.Namespace) -> dict[str, Any]:
    """How the model is loaded."""
    return {"dtype": FORMATS[chosen.format][0], "attn_implementation": chosen.attention}


class Clock(transformers.TrainerCallback):
    """Seconds of each optimizer step and of the phases in it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.phases: list[dict[str, float]] = []
        self._mark = 0.0
        self._open: dict[str, float] = collections.defaultdict(float)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._mark = time.perf_counter()
        self._open.clear()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._mark)
        self.phases.append(dict(self._open))
        self._mark = now
        self._open.clear()

    def time(self, owner: Any, name: str, phase: str) -> None:
        """Count the seconds in `owner.name` towards a phase; phases must not lie in one another."""
        setattr(owner, name, self.timed(getattr(owner, name), phase))

    def timed(self, function: Any, phase: str) -> Any:
        """`function`, its seconds counted towards a phase."""

        def inner(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._open[phase] += time.perf_counter() - began

        return inner

    def time_training(self, trainer: Any) -> None:
        """Forward and backward passes of a Hugging Face trainer."""
        self.time(trainer, "compute_loss", "forward")
        self.time(trainer.accelerator, "backward", "backward")


def report(work: str, chosen: argparse.Namespace, clock: Clock, shapes: list[list[Any]], libraries: list[Any]) -> None:
    """Print the result. `shapes`: for each step its sequences as (prompt length, [answer length])."""
    steps = [
        {"seconds": seconds, "phases": phases, "shapes": shape}
        for seconds, phases, shape in zip(clock.seconds, clock.phases, shapes, strict=True)
    ]
    print_result(work, steps[0]["seconds"], steps[1:], libraries, attention=chosen.attention, format=chosen.format)


def print_result(work: str, warmup: float, steps: list[Any], libraries: list[Any], **more: Any) -> None:
    """One JSON line for the harness."""
    versions = " ".join(f"{library.__name__} {library.__version__}" for library in [*libraries, transformers, torch])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"work": work, "versions": versions, "threads": torch.get_num_threads(), "peak_memory_mib": round(peak)}
    print("RESULT " + json.dumps(found | more | {"warmup_seconds": warmup, "steps": steps}), flush=True)
