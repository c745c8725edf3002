"""Run folders as a report reads them: files only, nothing loaded, nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plaudit.core.errors import RunError
from plaudit.core.run import is_run, read_config, read_environment, read_inputs, read_log, read_summary
from plaudit.reports.figures import is_number

STAGES = ("sft", "sample", "label", "reward", "ppo", "dpo", "evaluate")  # the order of the loop
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Folder:
    """One run folder. `summary` is empty while the run is unfinished."""

    path: Path
    stage: str
    config: dict[str, Any]
    environment: dict[str, Any]
    inputs: dict[str, str]  # content hash of each data set and parent model, by name
    metrics: list[Row]  # one row a step
    timings: list[Row]
    samples: list[Row]
    summary: dict[str, Any]
    finished: bool

    @property
    def name(self) -> str:
        return self.path.name

    def called(self, spec: object) -> str:
        """A scorer or model as this page calls it: the name of a run beside this one, anything else as it was given."""
        path = Path(str(spec))
        return path.name if path.resolve().parent == self.path.parent else str(spec)

    def column(self, key: str) -> list[tuple[float, float]]:
        """(step, value) of the rows that logged a number under `key`."""
        return [(float(row["step"]), float(row[key])) for row in self.metrics if is_number(row.get(key))]

    def logged(self) -> list[str]:
        """Names of the numbers in metrics.jsonl, in order of appearance."""
        names = {key: None for row in self.metrics for key, value in row.items() if key != "step" and is_number(value)}
        return list(names)


def read_folders(paths: Sequence[Path]) -> list[Folder]:
    """The run folders at or directly below `paths`, in the order they were started; by stage within a second.

    Raises:
        RunError: a path that is no run folder and holds none, or a damaged file.
    """
    found: dict[Path, None] = {}
    for path in paths:
        inside = [path] if is_run(path) else sorted(child for child in path.glob("*/") if is_run(child))
        if not inside:
            raise RunError(
                f"{path} is no run folder and holds none (a run folder has config.yaml and inputs.json). "
                "Give the folder named by run=… in a training command, or one that contains such folders."
            )
        found.update(dict.fromkeys(folder.resolve() for folder in inside))
    return sorted(map(read_folder, found), key=_when)


def _when(folder: Folder) -> tuple[str, int]:
    stage = STAGES.index(folder.stage) if folder.stage in STAGES else len(STAGES)
    return str(folder.environment.get("started", "")), stage


def read_folder(path: Path) -> Folder:
    """Everything a report needs from one run folder."""
    recorded = read_inputs(path)
    finished = (path / "summary.json").exists()
    return Folder(
        path=path,
        stage=str(recorded["stage"]),
        config=read_config(path),
        environment=read_environment(path),
        inputs=dict(recorded["inputs"]),
        metrics=_by_step(read_log(path, "metrics")),
        timings=read_log(path, "timings"),
        samples=read_log(path, "samples"),
        summary=read_summary(path) if finished else {},
        finished=finished,
    )


def _by_step(rows: list[Row]) -> list[Row]:
    """Rows of the same step as one: a step may log its training figures and, later, its held-out ones."""
    merged: dict[int, Row] = {}
    for row in rows:
        merged.setdefault(row["step"], {}).update(row)
    return [merged[step] for step in sorted(merged)]
