"""Checks of a run folder."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from plaudit.cli.checks import Check, error, ok, warning
from plaudit.core.errors import PlauditError
from plaudit.core.run import Run, is_being_written, is_run, read_environment, read_inputs, read_log


def check(path: Path) -> Iterator[Check]:
    """State, logs, checkpoints, and what training warned of."""
    if not is_run(path):
        yield error("run", f"{path} is no run folder", "Give run= the folder that a training command wrote.")
        return
    stage, finished = read_inputs(path)["stage"], (path / "summary.json").exists()
    rows = read_log(path, "metrics")
    last = rows[-1]["step"] if rows else None
    busy = is_being_written(path)
    if finished or busy:
        yield ok("state", f"{stage}, {'finished' if finished else 'running'} at step {last}")
    else:
        yield warning("state", f"{stage}, interrupted after step {last}", "Give its command again, and it goes on.")
    yield from _check_versions(path)
    if finished and not (path / "model" / "config.json").exists() and not (path / "model" / "ensemble.json").exists():
        yield error("model", f"{path / 'model'} holds no model", "Restore the folder from a copy, or run it again.")
    if not finished and not busy:
        yield _check_checkpoint(path, stage)
    if stage == "ppo":
        yield from _check_findings(path)


def _check_versions(path: Path) -> Iterator[Check]:
    recorded = read_environment(path)["packages"]
    changed = [f"{name} {old} then, {now} now" for name, old in recorded.items() if (now := _version(name)) != old]
    if changed:
        yield warning("versions", "; ".join(changed), "Continuing may not give the same bits as an uninterrupted run.")
    else:
        yield ok("versions", "as when the run began")


def _check_checkpoint(path: Path, stage: str) -> Check:
    from plaudit.models.checkpoints import load_latest

    try:
        found = load_latest(Run(path, stage=stage, finished=False))
    except PlauditError as refusal:
        return error("checkpoint", str(refusal))
    return ok("checkpoint", "none yet" if found is None else f"step {found.step}, every byte verified")


def _check_findings(path: Path) -> Iterator[Check]:
    from plaudit.training.doctor import all_findings

    rows = [row for row in read_log(path, "metrics") if row["step"] > 0]
    findings = all_findings(rows)
    for finding in findings:
        yield warning(
            finding["check"], f"{finding['message']}", f"In {finding['steps']} steps, first in {finding['first_step']}."
        )
    if rows and not findings:
        yield ok("training", "no warning sign")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
