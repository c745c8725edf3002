"""`plaudit report`: run folders to one HTML page."""

from pathlib import Path

from pydantic import Field

from plaudit.cli.command import Command, Outcome
from plaudit.core.config import Config


class ReportConfig(Config):
    """Settings of `plaudit report`."""

    run: Path | list[Path] = Field(description="Run folder, several of them, or a folder that holds a loop of runs.")
    out: Path | None = Field(None, description="HTML file to write; report.html beside the runs if not given.")


def _run(config: ReportConfig) -> Outcome:
    from plaudit.reports.report import build

    runs = [config.run] if isinstance(config.run, Path) else config.run
    page = build(runs, config.out)
    return Outcome({"report": str(page), "runs": [str(run) for run in runs]}, str(page))


REPORT = Command(
    "report",
    "Write report.html: what a run did, with intervals, curves, samples and lineage.",
    ("plaudit report run=runs/ppo", "plaudit report run=[runs/sft,runs/reward,runs/ppo] out=loop.html"),
    lambda: ReportConfig,
    _run,
    "Use and judge",
)
