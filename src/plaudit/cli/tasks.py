"""`plaudit tasks`: what a trained run is unsure of, or games, comes back as tasks."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from plaudit.cli.command import Command, Outcome
from plaudit.cli.in_project import PANEL, ProjectConfig, opened


class TasksConfig(ProjectConfig):
    """Settings of `plaudit tasks`."""

    run: Path = Field(description="Run folder: of a reward ensemble, or of PPO.")
    batch: str = Field(description="Name of the new batch.")
    by: Literal["uncertainty", "suspicion"] = Field(
        "uncertainty",
        description="Where the members of a reward ensemble are apart; or (PPO) where the reward is high and the "
        "judge's score is not.",
    )
    count: int = Field(50, ge=1, description="Prompts to choose.")
    random_share: float = Field(0.25, gt=0, le=1, description="Share of them drawn at random, whatever their score.")
    responses: int = Field(4, ge=2, le=9, description="Most answers ranked at once, the most telling ones.")
    overlap: int = Field(1, ge=1, le=100, description="People who judge each task.")
    start: bool = Field(False, description="Give out the tasks at once; otherwise the batch waits as a draft.")
    seed: int = Field(0, description="Seed of the draw.")


def _run(config: TasksConfig) -> Outcome:
    from plaudit.feedback.data.from_runs import bring_telling, telling_samples
    from plaudit.feedback.tasks.batches import BatchConfig, set_status
    from plaudit.feedback.tasks.selection import SelectionConfig

    found = telling_samples(config.run, config.by)
    selection = SelectionConfig.model_validate(
        {"count": config.count, "policy": config.by, "random_share": config.random_share, "seed": config.seed}
    )
    rules = BatchConfig.model_validate({"overlap": config.overlap, "responses_per_task": config.responses})
    with opened(config.project) as project, project.database.write() as c:
        brought = bring_telling(c, config.run, found, selection, batch=config.batch, config=rules, by=None)
        if config.start:
            set_status(c, brought.batch_id, "running", by=None)
    data = {"batch": config.batch, "by": config.by, **brought._asdict(), "started": config.start}
    state = "They are given out now." if config.start else "The batch is a draft: start it on the batches page."
    text = f"{brought.tasks} of {brought.prompts} prompts of {config.run} are tasks in {config.batch}, by {config.by}."
    return Outcome(data, f"{text} {state}")


TASKS = Command(
    "tasks",
    "Bring a trained run's uncertain or suspicious samples back as tasks.",
    (
        "plaudit tasks unsure run=runs/reward project=my-project",
        "plaudit tasks gaming run=runs/ppo by=suspicion count=30 project=my-project",
    ),
    lambda: TasksConfig,
    _run,
    PANEL,
    words=("batch",),
)
