"""Seconds from the command line to the first step: `plaudit sft` and `plaudit ppo` on a local model folder.

    python benchmarks/startup.py --workload FOLDER          # has sft.jsonl and prompts.jsonl; or set PLAUDIT_PEER

Runs the commands as a user does, watches the run folder, and stops each after its first step. Prints one JSON line a
command: seconds until the run folder is there (imports, data, hashes), until the first step begins (models loaded and
the untrained policy measured on held-out data), and of the first step itself.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from plaudit.core.files import read_jsonl, write_jsonl
from plaudit.core.run import read_log
from plaudit.datasets.render import Renderer
from plaudit.models.export import save_reward
from plaudit.models.load import new_reward, resolve_model
from plaudit.models.precision import FLOAT32

LONGEST = 600.0
PLAUDIT = [sys.executable, "-c", "from plaudit.cli.app import main; main()"]


def main() -> None:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the command started here is stopped too
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for stage in options.only:
            found = first_step(stage, arguments(stage, options, folder), folder / "runs" / stage, options.threads)
            print(json.dumps(found), flush=True)


def arguments(stage: str, options: argparse.Namespace, folder: Path) -> list[str]:
    """Settings of a command; everything else is as it comes."""
    model = resolve_model(options.model)
    if stage == "sft":
        rows = [{"messages": row["messages"]} for row in read_jsonl(options.workload / "sft.jsonl")]
        write_jsonl(folder / "sft.jsonl", rows)
        return [f"model={model}", f"data={folder / 'sft.jsonl'}"]
    rows = [{"prompt": row["prompt"]} for row in read_jsonl(options.workload / "prompts.jsonl")]
    write_jsonl(folder / "prompts.jsonl", rows)
    fresh = new_reward(model, precision=FLOAT32, seed=0)
    save_reward(fresh.with_head(fresh.head), folder / "reward", pad_id=Renderer(fresh.tokenizer).pad_id)
    return [
        f"policy={model}",
        f"reward={folder / 'reward'}",
        f"prompts={folder / 'prompts.jsonl'}",
        "judge=none",
        "sampling.max_new_tokens=48",
    ]


def first_step(stage: str, settings: list[str], run: Path, threads: int) -> dict[str, Any]:
    """Start the command, wait for its first row of timings, stop it."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PLAUDIT_QUIET": "1", "HF_HUB_OFFLINE": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [*PLAUDIT, stage, *settings, f"run={run}"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    opened, rows = None, []
    try:
        while not rows and time.perf_counter() - began < LONGEST:
            time.sleep(0.02)
            if process.poll() is not None:
                raise SystemExit(f"plaudit {stage} ended before its first step:\n{process.communicate()[1]}")
            if opened is None and (run / "config.yaml").exists():
                opened = time.perf_counter() - began
            if (run / "timings.jsonl").exists():
                rows = [row for row in read_log(run, "timings") if row["step"] == 1]
        ended = time.perf_counter() - began
    finally:
        process.kill()
        process.communicate()
    if not rows:
        raise SystemExit(f"plaudit {stage} took no step in {LONGEST:.0f} seconds")
    step = rows[0].get("step_seconds") or sum(v for k, v in rows[0].items() if k not in ("step", "judge"))
    before = [row for row in read_log(run, "timings") if row["step"] == 0]
    return {
        "benchmark": "startup",
        "stage": stage,
        "threads": threads,
        "run_folder_s": round(opened or 0.0, 2),
        "first_step_begins_s": round(ended - step, 2),
        "of_which_judging_s": round(before[0]["judge"], 2) if before else None,
        "first_step_s": round(step, 2),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    peer = os.environ.get("PLAUDIT_PEER")
    parser.add_argument("--workload", type=Path, default=Path(peer) / "workload" if peer else None)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--only", nargs="+", choices=("sft", "ppo"), default=["sft", "ppo"])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.workload is None:
        parser.error("give --workload=FOLDER with sft.jsonl and prompts.jsonl, or set PLAUDIT_PEER")
    return options


if __name__ == "__main__":
    main()
