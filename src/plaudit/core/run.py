"""A run folder: everything one training run was given and produced, and enough to continue it after any crash.

```
config.yaml        the resolved settings, every key          metrics.jsonl   one row a step, deterministic numbers only
environment.json   versions, machine, commit, command        timings.jsonl   seconds, which differ from run to run
inputs.json        content hashes of data and models         samples.jsonl   texts the model produced
checkpoints/       for exact resume                          model/          the result, a plain transformers folder
summary.json       headline numbers; its presence means that the run is finished
```
"""

import fcntl
import json
import math
import os
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from plaudit.core.config import Config, dump_config, flatten
from plaudit.core.environment import describe_environment
from plaudit.core.errors import RunError
from plaudit.core.files import (
    append_line,
    atomic_write,
    clean_leftovers,
    drop_torn_line,
    explain_write_errors,
    json_line,
    make_folder,
    write_json,
)
from plaudit.core.yaml12 import inline_yaml, parse_yaml

LOGS = ("metrics", "timings", "samples")

# Locks of this process by folder. A lock belongs to the process, not to the Run object: training that failed and is
# started again in the same notebook or test must not find the folder locked by its own first attempt.
_locks: dict[Path, int] = {}


class Run:
    """A run folder, open for writing by this process alone. Use it as a context manager, or call `close`."""

    def __init__(self, path: Path, *, stage: str, finished: bool) -> None:
        """Use `Run.open`."""
        self.path = path
        self.stage = stage
        self.finished = finished
        self._last_step = {log: _last_step(path, log) for log in LOGS}

    @classmethod
    def open(cls, path: str | Path, *, stage: str, config: Config, inputs: Mapping[str, str]) -> Self:
        """A new run folder, or the one of this name to continue: then `config` and `inputs` must be what they were.

        inputs: content hash of each data set and parent model, by name.
        A finished run comes back with `finished` true and refuses further rows.

        Raises RunError when another process writes this run, when settings or inputs differ (naming each), when the
        folder holds something else, and when it cannot be written.
        """
        path = Path(path)
        make_folder(path)
        if not (path / "summary.json").exists():
            _lock(path)
        try:
            clean_leftovers(path)
            clean_leftovers(path / "checkpoints")
            if (path / "config.yaml").exists() and (path / "inputs.json").exists():
                _check_same(path, stage, config, inputs)
                _note_continued(path)
            else:
                _check_empty(path)
                write_json(path / "environment.json", describe_environment(flatten(config.model_dump())))
                write_json(path / "inputs.json", {"stage": stage, "inputs": dict(inputs)})
                atomic_write(path / "config.yaml", dump_config(config))  # last: it makes the folder a run
            for log in LOGS:
                drop_torn_line(path / f"{log}.jsonl")
            return cls(path, stage=stage, finished=(path / "summary.json").exists())
        except BaseException:
            _unlock(path)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes write this run. What was logged is on disk already."""
        _unlock(self.path)

    def log(self, step: int, **values: Any) -> None:
        """Add a row to `metrics.jsonl`: numbers (or 0-d tensors) that a resumed run reproduces bit for bit; no times.

        Raises RunError naming the metric if a value is NaN or infinite. `None` stands for "not measured".
        """
        self._append("metrics", step, values)

    def log_time(self, step: int, **seconds: float) -> None:
        """Add a row to `timings.jsonl`."""
        self._append("timings", step, seconds)

    @contextmanager
    def timed(self, name: str) -> Generator[None, None, None]:
        """Add the seconds of a stage without steps to `timings.jsonl`, also where it is interrupted."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.log_time(0, **{name: time.monotonic() - began})

    def sample(self, step: int, **record: Any) -> None:
        """Add a row to `samples.jsonl`: texts of the model with whatever belongs to them."""
        self._append("samples", step, record)

    def rewind(self, step: int) -> None:
        """Drop the rows after `step`, before going on from a checkpoint taken there. -1 drops all rows."""
        for log in LOGS:
            file = self.path / f"{log}.jsonl"
            rows = _read_log(file)
            kept = [row for row in rows if row["step"] <= step]
            if len(kept) < len(rows):
                atomic_write(file, "".join(json_line(row) + "\n" for row in kept))
            self._last_step[log] = kept[-1]["step"] if kept else None

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`, which marks the run finished, and close it."""
        self._refuse_if_finished()
        plain = cast(dict[str, Any], _plain(dict(summary), "summary", self.path))
        write_json(self.path / "summary.json", plain)
        self.finished = True
        self.close()

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`."""
        return read_log(self.path, "metrics")

    def summary(self) -> dict[str, Any]:
        """What `finish` was given. Raises RunError if the run is not finished."""
        return read_summary(self.path)

    def _append(self, log: str, step: int, values: Mapping[str, Any]) -> None:
        self._refuse_if_finished()
        last = self._last_step[log]
        if last is not None and step < last:
            raise RunError(
                f"{self.path}/{log}.jsonl already goes to step {last}; a row of step {step} would make it "
                f"ambiguous. Call rewind({step - 1}) before going on from a checkpoint."
            )
        row = {"step": step} | {name: _plain(value, name, self.path) for name, value in values.items()}
        append_line(self.path / f"{log}.jsonl", json_line(row))
        self._last_step[log] = step

    def _refuse_if_finished(self) -> None:
        if self.finished:
            raise RunError(f"{self.path} is finished; nothing is added to it. Give another run=.")


# --- reading a run, without locking it: for reports, and for stages that start from it --------------------------------


def read_log(path: Path, log: str) -> list[dict[str, Any]]:
    """The rows of "metrics", "timings" or "samples" of a run, finished or not.

    A last line that a crash tore is left out; damage anywhere else is a RunError.
    """
    return _read_log(path / f"{log}.jsonl")


def read_config(path: Path) -> dict[str, Any]:
    """The resolved settings of a run, nested as in `config.yaml`."""
    return cast(dict[str, Any], parse_yaml(_read_text(path / "config.yaml")))


def read_inputs(path: Path) -> dict[str, Any]:
    """`{"stage": …, "inputs": {name: content hash}}` of a run."""
    return json.loads(_read_text(path / "inputs.json"))


def read_environment(path: Path) -> dict[str, Any]:
    """Versions, machine, commit and command line of a run; `continued` lists the later starts."""
    return json.loads(_read_text(path / "environment.json"))


def read_summary(path: Path) -> dict[str, Any]:
    """The headline numbers of a finished run. Raises RunError if it is not finished."""
    if is_run(path) and not (path / "summary.json").exists():
        raise RunError(f"{path} is not finished: it has no summary.json. Give its command again, and it goes on.")
    return json.loads(_read_text(path / "summary.json"))


def is_run(path: Path) -> bool:
    """Whether the folder is a run folder."""
    return (path / "config.yaml").is_file() and (path / "inputs.json").is_file()


def is_being_written(path: Path) -> bool:
    """Whether a process has the run open."""
    try:
        with open(path / ".lock", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise RunError(f"Cannot read {file}: {error.strerror}. Is {file.parent} a run folder?") from error


def _read_log(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    *lines, _torn = file.read_bytes().split(b"\n")  # a complete log ends with a line feed: then the rest is empty
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            row["step"]
        except (ValueError, TypeError, KeyError):
            raise RunError(
                f"{file}:{number} is damaged: found {line[:60]!r}, expected one JSON object with a step. "
                "Restore the file from a copy, or delete the run folder."
            ) from None
        rows.append(row)
    return rows


def _last_step(path: Path, log: str) -> int | None:
    rows = read_log(path, log)
    return rows[-1]["step"] if rows else None


# --- opening -------------------------------------------------------------------------------------------------------


def _lock(path: Path) -> None:
    key = path.resolve()
    if key in _locks:
        return
    with explain_write_errors(path):
        descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        # The kernel releases the lock when the process ends, however it ends: no stale lock to delete by hand.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise RunError(
            f"{path} is being written by another process ({owner}). Wait for it, stop it, or give another run=."
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()}\n".encode("ascii"), 0)
    _locks[key] = descriptor


def _unlock(path: Path) -> None:
    descriptor = _locks.pop(path.resolve(), None)
    if descriptor is not None:
        os.close(descriptor)


def _check_empty(path: Path) -> None:
    """A folder becomes a run only if there is nothing in it but what an earlier, interrupted start left."""
    own = {".lock", "environment.json", "inputs.json"}
    if others := sorted(entry.name for entry in path.iterdir() if entry.name not in own):
        raise RunError(
            f"{path} is no run folder, and it is not empty: it holds {', '.join(others[:5])}. Give another run=."
        )


def _check_same(path: Path, stage: str, config: Config, inputs: Mapping[str, str]) -> None:
    recorded = read_inputs(path)
    new_config = cast(dict[str, Any], parse_yaml(dump_config(config)))
    differences = [
        *list_differences("", {"stage": recorded["stage"]}, {"stage": stage}),
        *list_differences("", _comparable(read_config(path)), _comparable(new_config)),
        *list_differences("input ", recorded["inputs"], inputs),
    ]
    if differences:
        raise RunError(
            f"{path} is a run with other settings or inputs:\n"
            + "\n".join(f"  {line}" for line in differences)
            + "\nGive another run= to start a new one, the old values to continue this one, or delete the folder."
        )


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    # `run` only says where the folder is; a folder may be moved, or reached by another path.
    return {key: value for key, value in flatten(config).items() if key != "run"}


def list_differences(prefix: str, old: Mapping[str, Any], new: Mapping[str, Any], *, kept: str = "folder") -> list[str]:
    """What differs between the settings or inputs written down and those given now, one line a key."""
    absent = object()
    lines: list[str] = []
    for key in dict.fromkeys([*old, *new]):
        before, now = old.get(key, absent), new.get(key, absent)
        if before != now:
            texts = ["absent" if value is absent else inline_yaml(value) for value in (before, now)]
            lines.append(f"{prefix}{key}: {texts[0]} in the {kept}, {texts[1]} now")
    return lines


def _note_continued(path: Path) -> None:
    if (path / "summary.json").exists():
        return
    environment = read_environment(path)
    environment.setdefault("continued", []).append(describe_environment({}))
    write_json(path / "environment.json", environment)


# --- values --------------------------------------------------------------------------------------------------------


def _plain(value: Any, name: str, path: Path) -> Any:
    """The value in JSON's own types. 0-d tensors and NumPy scalars become numbers, at full precision."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, f"{name}.{key}", path) for key, inner in cast(dict[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, f"{name}[{index}]", path) for index, inner in enumerate(cast(list[Any], value))]
    if not isinstance(value, bool | int | float | str | None) and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise RunError(
            f"{path}: {name} is {value}. A metric that is no finite number means that training has gone wrong "
            "(try a lower learning rate), or that nothing was measured (log None then)."
        )
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, bool | int | float | str | None):
        raise RunError(f"{path}: {name} is a {type(value).__name__}, which JSON cannot hold. Log numbers and text.")
    return value
