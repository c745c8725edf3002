"""Plaudit and TRL side by side: same model, same rows, same threads, alternating, each run in a process of its own.

    make bench-peer                                         # everything; PLAUDIT_PEER names the folder with workload/
    python -m benchmarks.peer --only ppo,dpo --repeats 3    # parts of it
    python -m benchmarks.peer --table runs/bench-peer.jsonl # the tables of an earlier measurement

Every result goes into the file as soon as it is there, one JSON line a run. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.peer.arms import TUNED, WORKS, Arm, Settings, arms, environment
from benchmarks.peer.flops import Model
from benchmarks.peer.summary import arm_of, rows_of, tables

ROOT = Path(__file__).parents[2]


def main() -> int:
    options = parse()
    if options.table:
        return show(options.table)
    settings = Settings(
        options.model or own_model(), options.workload, options.venv, options.threads, options.tiny, options.vllm
    )
    check(settings)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    record = Record(options.out)
    began = time.monotonic()
    record.add({"settings": {k: str(v) for k, v in vars(options).items()}, "config": read_config(settings.model)})
    record.add({"peak": gemm(settings)})
    failed: list[str] = []
    for work in options.only:
        candidates = [
            arm for arm in arms(work, settings) if arm.kind != "plaudit" or options.split in (None, arm.variant)
        ]
        for repeat in range(options.repeats):
            for arm in chosen(candidates, record.results, work, repeat, documented=repeat < options.documented):
                since = f"{time.monotonic() - began:5.0f} s"
                print(f"[{since}] {repeat + 1}/{options.repeats} {arm.name}", file=sys.stderr, flush=True)
                result = run(arm, settings)
                if result is None:
                    failed.append(arm.name)
                else:
                    record.add({"arm_work": work, "kind": arm.kind, "variant": arm.variant, "repeat": repeat} | result)
    record.add({"peak": gemm(settings)})
    show(options.out)
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    return bool(failed)


class Record:
    """The file of results, and the results so far."""

    def __init__(self, path: Path) -> None:
        self.results: list[dict[str, Any]] = []
        self._path = path
        path.write_text("")

    def add(self, row: dict[str, Any]) -> None:
        """Append a row."""
        if "arm_work" in row:
            self.results.append(row)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def chosen(candidates: list[Arm], results: list[Any], work: str, repeat: int, *, documented: bool) -> list[Arm]:
    """The arms of a repeat, peers first. After the first repeat a tuned peer runs only in its fastest way."""
    first = [r for r in results if repeat and r["repeat"] == 0]
    best = {kind: arm_of(first, work, kind).results.get(0) for kind in TUNED}
    return [
        arm
        for arm in candidates
        if arm.kind == "plaudit"
        or (arm.kind == "documented" and documented)
        or (arm.kind in TUNED and ((fastest := best[arm.kind]) is None or arm.variant == fastest["variant"]))
    ]


def run(arm: Arm, settings: Settings) -> dict[str, Any] | None:
    """Run an arm; its result, or None after saying what went wrong."""
    done = subprocess.run(
        arm.command, cwd=ROOT, env=environment(arm, settings), capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        said = (done.stdout + done.stderr)[-3000:]
        print(f"{arm.name} failed; it said:\n{said}", file=sys.stderr, flush=True)
        return None
    return json.loads(lines[-1].removeprefix("RESULT "))


def gemm(settings: Settings) -> dict[str, Any]:
    """The machine's peak now."""
    command = [sys.executable, "-m", "benchmarks.peer.gemm"]
    command += ["--model", str(settings.model), "--threads", str(settings.threads)]
    arm = Arm("peak", "plaudit", "", tuple(command))
    return run(arm, settings) or {}


def show(path: Path) -> int:
    """Print the tables of a file of results, and put its rows beside it."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    head = next(row for row in rows if "settings" in row)
    peaks = [row["peak"]["flop_per_s"] for row in rows if row.get("peak")]
    results = [row for row in rows if "arm_work" in row]
    epochs = 1 if head["settings"]["tiny"] == "True" else 4
    found = rows_of(results, Model.of(head["config"]), max(peaks), epochs)
    print(tables(found, max(peaks)))
    written = [json.dumps(row) for row in found]
    path.with_suffix(".rows.jsonl").write_text("\n".join(written) + "\n", encoding="utf-8")
    return 0


def own_model() -> Path:
    """SmolLM2-135M-Instruct as Plaudit keeps it: the peer loads the same folder."""
    program = "from plaudit.models.load import resolve_model; print(resolve_model('smollm2'))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip().splitlines()[-1])


def read_config(model: Path) -> dict[str, Any]:
    """The model's dimensions."""
    return json.loads((model / "config.json").read_text(encoding="utf-8"))


def check(settings: Settings) -> None:
    """Everything is there, and the machine is idle."""
    if not (settings.workload / "prompts.jsonl").exists():
        sys.exit(f"{settings.workload} has no prompts.jsonl; set PLAUDIT_PEER to the folder that holds workload/")
    if not (settings.venv / "bin" / "python").exists():
        sys.exit(f"{settings.venv} is no environment; make it with benchmarks/peer/setup.sh {settings.venv}")
    if settings.vllm and not (settings.vllm / "bin" / "python").exists():
        sys.exit(f"{settings.vllm} is no environment; make it with benchmarks/peer/setup-vllm.sh {settings.vllm}")
    load = os.getloadavg()[0]
    if load > 0.5 and not settings.tiny:
        print(f"The machine is not idle (load {load:.1f}): threads wait for cores they share.", file=sys.stderr)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    peer = os.environ.get("PLAUDIT_PEER")
    parser.add_argument("--workload", type=Path, default=Path(peer) / "workload" if peer else None)
    parser.add_argument("--model", type=Path, help="folder; by default SmolLM2-135M-Instruct")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-peer")
    vllm = ROOT / ".venv-vllm"
    parser.add_argument(
        "--vllm", type=Path, default=vllm if vllm.exists() else None, help="its environment; it samples too"
    )
    parser.add_argument("--only", default=",".join(WORKS), help="kinds of work, by comma: " + ", ".join(WORKS))
    parser.add_argument("--split", choices=("8", "all"), help="only this split of Plaudit")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--documented", type=int, default=1, help="repeats that also run the peer as documented")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench-peer.jsonl")
    parser.add_argument("--tiny", action="store_true", help="tiny steps, to see that all of it runs")
    parser.add_argument("--table", type=Path, help="print the tables of this file of results and measure nothing")
    options = parser.parse_args()
    options.only = [name.strip() for name in options.only.split(",")]
    if unknown := [name for name in options.only if name not in WORKS]:
        parser.error(f"--only {unknown[0]}: known are {', '.join(WORKS)}")
    if options.workload is None and options.table is None:
        parser.error("give --workload=FOLDER with prompts.jsonl, or set PLAUDIT_PEER")
    return options


if __name__ == "__main__":
    sys.exit(main())
