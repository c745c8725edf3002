"""What a PPO run went through: KL, training reward, ensemble spread, judge and rule after every few rounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from table import load_slots, mean_cell

from plaudit.core.run import read_log
from plaudit.evaluation.statistics import clustered_mean

HEADER = """\
| run | round | minutes | sqrt(KL) | training reward | ensemble spread | judge | rule (minus faults) |
|---|---|---|---|---|---|---|---|"""


def course_table(runs: Sequence[Path]) -> str:
    """A row for every judgement of each PPO run, all on the same held-out prompts, intervals clustered by prompt.

    Minutes are those of sampling, scoring and training until then, without the judgements. The spread is that of the
    ensemble's members on the answers of the round.
    """
    return "\n".join([HEADER, *(line for run in runs for line in _rows(run))])


def _rows(run: Path) -> list[str]:
    timings = {row["step"]: row for row in read_log(run, "timings")}
    answers: dict[int, list[dict[str, Any]]] = {}
    for row in read_log(run, "samples"):
        if row["kind"] == "held out":
            answers.setdefault(row["step"], []).append(row)
    lines: list[str] = []
    for row in read_log(run, "metrics"):
        step = row["step"]
        if "judge" not in row:
            continue
        seconds = sum(
            value
            for at, phases in timings.items()
            if 0 < at <= step
            for phase, value in phases.items()
            if phase not in ("step", "judge")
        )
        spread = row.get("ensemble_spread")
        cells = [
            run.name,
            str(step),
            f"{seconds / 60:.1f}",
            f"{max(0.0, row['held_out_kl']) ** 0.5:.2f}",
            mean_cell(_interval(row, "held_out_reward")),
            "-" if spread is None else f"{spread:.3f}",
            mean_cell(_interval(row, "judge")),
            mean_cell(_rule(answers[step])),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _interval(row: dict[str, Any], name: str) -> dict[str, float]:
    return {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}


def _rule(answers: Sequence[dict[str, Any]]) -> dict[str, float]:
    chats = [row["prompt"] for row in answers]
    scores = load_slots().judge(chats, [row["response"] for row in answers])
    mean = clustered_mean(scores, np.array([chat[-1]["content"] for chat in chats]))
    return {"value": mean.value, "low": mean.low, "high": mean.high}
