"""`plaudit quickstart`: the whole loop on data that comes with Plaudit."""

from typing import Any

from plaudit.cli.command import Command, Outcome
from plaudit.core.config import Config


def _settings() -> type[Config]:
    from plaudit.quickstart.loop import QuickstartConfig

    return QuickstartConfig


def _run(config: Any) -> Outcome:
    from plaudit.core.run import read_summary
    from plaudit.quickstart.loop import headline, run

    folder = run(config)
    report = folder / "report.html"
    summary = read_summary(folder / "evaluation")
    return Outcome({"run": str(folder), "report": str(report), "summary": summary}, f"{headline(folder)}\n{report}")


QUICKSTART = Command(
    "quickstart",
    "The whole loop in minutes: sample, rank, SFT, reward model, PPO, evaluate, report.",
    ("plaudit quickstart", "plaudit quickstart run=runs/mine seed=1"),
    _settings,
    _run,
    "Start here",
)
