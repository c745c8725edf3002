"""`plaudit doctor`: is this machine, model, reward model, data set or run fit for what it is meant for?"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field
from rich.text import Text

from plaudit.cli.checks import Check, error
from plaudit.cli.command import EXIT_FINDINGS, Command, Outcome
from plaudit.core.config import Config
from plaudit.core.errors import PlauditError
from plaudit.core.progress import say

STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


class DoctorConfig(Config):
    """Settings of `plaudit doctor`."""

    model: str | None = Field(None, description="Language model to check: smollm2, a folder, a run, a hub name.")
    reward: str | None = Field(None, description="Scorer to check: a reward model, or 'file.py:function'.")
    data: str | None = Field(None, description="Data to check; with model=, its lengths in tokens too.")
    run: Path | None = Field(None, description="Run folder to check.")
    precision: Literal["auto", "bfloat16", "float32"] = Field("auto", description="Type models compute in.")


def _run(config: DoctorConfig) -> Outcome:
    from plaudit.cli import checks_data, checks_machine, checks_model, checks_run

    parts: list[tuple[str, Callable[[], Iterator[Check]]]] = [("machine", checks_machine.check)]
    if config.model is not None:
        model = config.model
        parts.append((f"model {model}", lambda: checks_model.check_policy(model, config.precision)))
    if config.reward is not None:
        reward = config.reward
        parts.append((f"reward {reward}", lambda: checks_model.check_reward(reward, config.precision)))
    if config.data is not None:
        data = config.data
        parts.append((f"data {data}", lambda: checks_data.check(data, config.model)))
    if config.run is not None:
        run = config.run
        parts.append((f"run {run}", lambda: checks_run.check(run)))
    text = Text()
    found: dict[str, list[Check]] = {}
    for title, part in parts:
        say(f"Checking {title} …")
        found[title] = list(_collect(part))
        text.append(f"{title}\n", style="bold")
        for check in found[title]:
            text.append_text(_line(check))
    counts = {level: sum(check.level == level for part in found.values() for check in part) for level in STYLES}
    text.append(f"{counts['ok']} ok, {counts['warning']} warnings, {counts['error']} errors", style="bold")
    data_out = counts | {"checks": {title: [check._asdict() for check in part] for title, part in found.items()}}
    return Outcome(data_out, text, EXIT_FINDINGS if counts["error"] else 0)


def _collect(part: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The checks of a part. What Plaudit refuses to work with ends the part, as an error among the others."""
    try:
        yield from part()
    except PlauditError as refusal:
        yield error("usable", str(refusal))


def _line(check: Check) -> Text:
    line = Text.assemble("  ", (f"{check.level:<8}", STYLES[check.level]), f"{check.name}: {check.value}")
    if check.remedy:
        line.append(f"\n          {check.remedy}", style="italic")
    return line.append("\n")


DOCTOR = Command(
    "doctor",
    "Check the machine, a model, a reward model, data or a run for silent faults.",
    (
        "plaudit doctor",
        "plaudit doctor model=runs/sft reward=runs/reward data=rankings.jsonl",
        "plaudit doctor run=runs/ppo",
    ),
    lambda: DoctorConfig,
    _run,
    "Use and judge",
)
