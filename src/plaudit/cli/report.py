"""`plaudit report`: run folders to one HTML page."""

from pathlib import Path
from typing import Any

from pydantic import Field

from plaudit.cli.command import Command, Outcome
from plaudit.core.config import Config


class ReportConfig(Config):
    """Settings of `plaudit report`."""

    run: str | list[str] = Field(description="Run folder, or a list of them for one page about a whole loop.")


def _run(config: Any) -> Outcome:
    from plaudit.reports.report import build

    runs = [config.run] if isinstance(config.run, str) else config.run
    page = build([Path(run) for run in runs])
    return Outcome({"report": str(page), "runs": runs}, str(page))


REPORT = Command(
    "report",
    "Write report.html: what a run did, with intervals, curves, samples and lineage.",
    ("plaudit report run=runs/ppo", "plaudit report run=[runs/sft,runs/reward,runs/ppo]"),
    lambda: ReportConfig,
    _run,
    "Use and judge",
)
