"""`plaudit tasks`: what a trained run is unsure of, or games, comes back as tasks; or what a file of scores names."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from plaudit.cli.command import Command, Outcome
from plaudit.cli.in_project import PANEL, ProjectConfig, opened
from plaudit.core.errors import ConfigError

if TYPE_CHECKING:
    from plaudit.feedback.tasks.batches import BatchConfig
    from plaudit.feedback.tasks.selection import SelectionConfig


class TasksConfig(ProjectConfig):
    """Settings of `plaudit tasks`."""

    run: Path | None = Field(None, description="Run folder: of a reward ensemble, or of PPO.")
    scores: Path | None = Field(
        None, description="Instead of a run: prompts of the project with their scores, from plaudit score out=…"
    )
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
    if (config.run is None) == (config.scores is None):
        raise ConfigError("Give either run=DIR or scores=FILE: what says which prompts to label next?")
    return _by_scores(config, config.scores) if config.scores is not None else _by_run(config)


def _by_run(config: TasksConfig) -> Outcome:
    from plaudit.feedback.data.from_runs import bring_telling, telling_samples
    from plaudit.feedback.tasks.batches import set_status

    assert config.run is not None
    found = telling_samples(config.run, config.by)
    with opened(config.project) as project, project.database.write() as c:
        brought = bring_telling(
            c, config.run, found, _selection(config), batch=config.batch, config=_rules(config), by=None
        )
        if config.start:
            set_status(c, brought.batch_id, "running", by=None)
    data = {"batch": config.batch, "by": config.by, **brought._asdict(), "started": config.start}
    text = f"{brought.tasks} of {brought.prompts} prompts of {config.run} are tasks in {config.batch}, by {config.by}."
    return Outcome(data, f"{text} {_state(config)}")


def _by_scores(config: TasksConfig, scores: Path) -> Outcome:
    from plaudit.feedback.tasks.batches import create_batch, set_status
    from plaudit.feedback.tasks.score_files import add_chosen, check_scores

    checked = check_scores(scores)
    with opened(config.project) as project, project.database.write() as c:
        batch_id = create_batch(c, config.batch, "ranking", "work", _rules(config), by=None)
        choice = add_chosen(c, batch_id, checked, _selection(config), by=None)
        if config.start:
            set_status(c, batch_id, "running", by=None)
    data = {"batch": config.batch, "by": config.by, "batch_id": batch_id, **choice._asdict(), "started": config.start}
    left_out = "".join(f" Left out: {count} {cause}." for cause, count in choice.left_out.items())
    text = f"{choice.prompts} of {choice.candidates} prompts are tasks in {config.batch}, {choice.at_random} by lot."
    return Outcome(data, f"{text}{left_out} {_state(config)}")


def _selection(config: TasksConfig) -> "SelectionConfig":
    from plaudit.feedback.tasks.selection import SelectionConfig

    return SelectionConfig(count=config.count, policy=config.by, random_share=config.random_share, seed=config.seed)


def _rules(config: TasksConfig) -> "BatchConfig":
    from plaudit.feedback.tasks.batches import BatchConfig

    return BatchConfig.model_validate({"overlap": config.overlap, "responses_per_task": config.responses})


def _state(config: TasksConfig) -> str:
    return "They are given out now." if config.start else "The batch is a draft: start it on the batches page."


TASKS = Command(
    "tasks",
    "Bring a trained run's uncertain or suspicious samples back as tasks; or prompts by a file of scores.",
    (
        "plaudit tasks unsure run=runs/reward project=my-project",
        "plaudit tasks gaming run=runs/ppo by=suspicion count=30 project=my-project",
        "plaudit tasks unsure scores=scored.jsonl project=my-project",
    ),
    lambda: TasksConfig,
    _run,
    PANEL,
    words=("batch",),
)
