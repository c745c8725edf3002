"""Kills training with SIGKILL, gives the same command again, and compares the result with a run left in peace.

Every start is a process of its own. A stage is one line in `STAGES`.
"""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import forked

Moment = Callable[[Path], bool]

COMMON = "seed=3 precision=float32 checkpoint_every=1 held_out=0.2 run={run}"
STAGES: dict[str, str] = {
    "sft": "model={policy} data={data}/answers.jsonl epochs=2 batch_size=4 lr=1e-2 eval_every=3 "
    "samples=2 sample_tokens=6",
    "dpo": "policy={policy} data={data}/rankings.jsonl epochs=2 batch_size=4 lr=1e-3 train_layers=2 eval_every=3",
    "reward": "model={policy} data={data}/rankings.jsonl epochs=2 batch_size=4 lr=1e-3 train_layers=2 members=2",
    "ppo": "policy={policy} reward={data}/rules.py:vowels judge={data}/rules.py:short prompts={data}/answers.jsonl "
    "iterations=6 prompts_per_iteration=4 epochs=2 value_warmup=4 lr=1e-3 train_layers=2 eval_every=3 "
    "sampling.max_new_tokens=6",
}

RULES = """
def vowels(prompts, responses):
    return [sum(c in "aeiou" for c in r) / (1 + len(r)) for r in responses]

def short(prompts, responses):
    return [-float(len(r)) for r in responses]
"""


def write_data(folder: Path) -> Path:
    """Toy data for every stage."""
    folder.mkdir()
    words = ["apple", "pear", "plum", "fig", "lime", "kiwi", "oat", "pea"]
    pairs = [(words[i % 8], words[(3 * i + i // 8) % 8], i) for i in range(30)]
    answers = [{"prompt": f"say {a} {b} {i}", "response": f"{a} and {b}"} for a, b, i in pairs]
    rankings = [
        {"prompt": f"say {a} {b} {i}", "responses": [f"{a} and {b}", f"{a}", f"no {b}"], "ranks": [1, 2, 2 + i % 2]}
        for a, b, i in pairs
    ]
    for name, rows in (("answers", answers), ("rankings", rankings)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "rules.py").write_text(RULES)
    return folder


class Job(NamedTuple):
    """A command to be killed: the stage, its settings, and the run folder they name."""

    stage: str
    settings: list[str]
    run: Path


def job(stage: str, run: Path, *, policy: Path, data: Path) -> Job:
    """The command of a stage in a run folder."""
    return Job(stage, f"{STAGES[stage]} {COMMON}".format(policy=policy, data=data, run=run).split(), run)


def start(given: Job) -> BaseProcess:
    """The command, in a process of its own."""
    return forked.start(_run, given.stage, given.settings)


def finish(given: Job) -> None:
    """Give the command and let it end."""
    process = start(given)
    process.join()
    assert process.exitcode == 0, f"{given.stage} ended with {process.exitcode}; its message is on standard error"


def kill_when(given: Job, moment: Moment, *, delay: float = 0.0) -> bool:
    """Give the command, and kill it at most `delay` seconds into `moment`. False if it ended before.

    The process is frozen first, and killed only if the moment is still there: so it really is half-way.
    """
    process = start(given)
    assert process.pid is not None
    while process.is_alive():
        if moment(given.run):
            time.sleep(delay)
            try:
                os.kill(process.pid, signal.SIGSTOP)
                time.sleep(0.002)
                if moment(given.run):
                    process.kill()
                    break
                os.kill(process.pid, signal.SIGCONT)
            except ProcessLookupError:  # it has ended meanwhile
                break
        time.sleep(0.0002)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), f"{given.stage} ended with {process.exitcode}"
    return process.exitcode != 0


def opened(run: Path) -> bool:
    """The run folder has just come into being."""
    return (run / "config.yaml").exists()


def logged(rows: int) -> Moment:
    """The metrics have so many rows."""

    def moment(run: Path) -> bool:
        file = run / "metrics.jsonl"
        return file.exists() and file.read_bytes().count(b"\n") >= rows

    return moment


def writing_checkpoint(run: Path) -> bool:
    """A checkpoint is being written."""
    return any((run / "checkpoints").glob(".step-*"))


def writing_model(run: Path) -> bool:
    """The final model is being written."""
    return any(run.glob(".model*"))


def after(seconds: float) -> Moment:
    """So many seconds from now, wherever the run may be."""
    deadline = time.monotonic() + seconds
    return lambda _run: time.monotonic() >= deadline


def results(run: Path) -> dict[str, bytes]:
    """Every byte that must not depend on interruptions: the logs but the times, and all files of the model."""
    files = [
        run / "metrics.jsonl",
        run / "samples.jsonl",
        *(file for file in run.glob("model*/**/*") if file.is_file()),
    ]
    return {str(file.relative_to(run)): file.read_bytes() for file in files if file.exists()}


def random_generator() -> random.Random:
    """Another run of the tests, other moments; printed, so that a failure can be looked at again."""
    seed = time.time_ns() % 2**32
    print(f"moments of killing: random.Random({seed})")
    return random.Random(seed)


def _run(stage: str, settings: list[str]) -> None:
    import torch

    from plaudit.cli import train
    from plaudit.core.config import load_config
    from plaudit.core.progress import be_quiet

    torch.set_num_threads(1)
    be_quiet()
    command = {"sft": train.SFT, "reward": train.REWARD, "ppo": train.PPO, "dpo": train.DPO}[stage]
    command.run(load_config(command.settings(), None, settings))
