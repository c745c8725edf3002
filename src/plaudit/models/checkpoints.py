"""Checkpoints of a run: everything an exact continuation needs, hashed, and replaced only once the new one is durable.

checkpoints/step-000120/
    state.safetensors   master weights and optimizer moments
    state.json          step, counters, and the dtype and shape of every tensor
    manifest.json       size and SHA-256 of the two files above
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from plaudit.core.errors import RunError
from plaudit.core.files import atomic_folder, clean_leftovers, explain_write_errors, sha256_file, write_json
from plaudit.core.run import Run

_FILES = ("state.json", "state.safetensors")
_DISCARDED = ".discarded-"
_NAME = re.compile(r"step-(\d{6,})")


class Checkpoint(NamedTuple):
    """What `save_checkpoint` was given, after `step` finished steps."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(
    run: Run, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, keep: int = 1
) -> Path:
    """Write `checkpoints/step-<step>`, then remove all but the newest `keep`.

    Args:
        step: number of finished steps. The state after a step never differs, so a step already saved is left alone.
        tensors: any dtypes; stored as they are.
        state: plain JSON values.

    Raises:
        RunError: the folder cannot be written (full disk, read-only). Older checkpoints are as before.
    """
    folder = _folder(run) / f"step-{step:06d}"
    if folder.exists():
        return folder
    forms = {name: [_dtype(tensor), *tensor.shape] for name, tensor in tensors.items()}
    try:
        with atomic_folder(folder) as building:
            with safetensors_as_os_errors():
                save_file({name: t.contiguous() for name, t in tensors.items()}, building / "state.safetensors")
            write_json(building / "state.json", {"step": step, "state": dict(state), "tensors": forms})
            files = {name: building / name for name in _FILES}
            write_json(
                building / "manifest.json",
                {name: {"size": file.stat().st_size, "sha256": sha256_file(file)} for name, file in files.items()},
            )
    except RunError as error:
        older = sorted(_steps(run))
        kept = f"The checkpoint of step {older[-1]} is untouched." if older else "There is no older checkpoint."
        raise RunError(f"{error} {kept}") from error
    steps = _steps(run)
    for old in sorted(steps)[:-keep]:
        _discard(steps[old])
    return folder


def load_latest(run: Run) -> Checkpoint | None:
    """The newest checkpoint, every byte verified; none if the run has no checkpoint yet.

    What a killed write left behind is removed. A damaged checkpoint is an error, never a reason to take an older one
    unasked: going back is a decision.

    Raises:
        RunError: a file is missing or its size or hash is wrong; names the file and what to do.
    """
    _clean(run)
    steps = _steps(run)
    if not steps:
        return None
    step = max(steps)
    folder = steps[step]
    remedy = _remedy(run, folder, sorted(steps)[:-1])
    _verify(folder, remedy)
    described = json.loads((folder / "state.json").read_text())
    tensors = load_file(folder / "state.safetensors")
    forms = {name: [_dtype(tensor), *tensor.shape] for name, tensor in tensors.items()}
    if described["step"] != step or described["tensors"] != forms:
        raise RunError(f"{folder}/state.json does not describe state.safetensors beside it. {remedy}")
    return Checkpoint(step, tensors, described["state"])


def remove_checkpoints(run: Run) -> None:
    """Free the disk space of a finished run's checkpoints: its result is `model/`."""
    shutil.rmtree(_folder(run), ignore_errors=True)


@contextmanager
def safetensors_as_os_errors() -> Iterator[None]:
    """Give a full disk its own name: safetensors wraps the operating system's error in one that is no OSError."""
    try:
        yield
    except SafetensorError as error:
        if (match := re.search(r"os error (\d+)", str(error))) is None:
            raise
        raise OSError(int(match[1]), os.strerror(int(match[1]))) from error


def _verify(folder: Path, remedy: str) -> None:
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        expected = {name: (int(manifest[name]["size"]), str(manifest[name]["sha256"])) for name in manifest}
        if expected.keys() != set(_FILES):
            raise ValueError(f"it lists {sorted(expected)}")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"Damaged checkpoint: {folder / 'manifest.json'} cannot be read: {error}. {remedy}") from error
    for name, (size, sha256) in expected.items():
        file = folder / name
        if not file.is_file():
            raise RunError(f"Damaged checkpoint: {file} is missing. {remedy}")
        if file.stat().st_size != size:
            raise RunError(f"Damaged checkpoint: {file} has {file.stat().st_size} bytes instead of {size}. {remedy}")
        if (found := sha256_file(file)) != sha256:
            raise RunError(f"Damaged checkpoint: {file} has SHA-256 {found} instead of {sha256}. {remedy}")


def _remedy(run: Run, damaged: Path, older: list[int]) -> str:
    if older:
        return f"Delete {damaged} to go on from step {older[-1]}."
    return f"There is no older checkpoint: delete {run.path} to start the run again."


def _discard(folder: Path) -> None:
    """Rename, then delete: killed half-way, it must not leave a damaged folder under a checkpoint's name."""
    doomed = folder.with_name(f"{_DISCARDED}{folder.name}")
    with explain_write_errors(folder):
        folder.rename(doomed)
        shutil.rmtree(doomed)


def _clean(run: Run) -> None:
    clean_leftovers(_folder(run))
    for doomed in _folder(run).glob(f"{_DISCARDED}*"):
        shutil.rmtree(doomed)


def _steps(run: Run) -> dict[int, Path]:
    if not _folder(run).is_dir():
        return {}
    matches = ((_NAME.fullmatch(path.name), path) for path in _folder(run).iterdir())
    return {int(match[1]): path for match, path in matches if match}


def _folder(run: Run) -> Path:
    return run.path / "checkpoints"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
