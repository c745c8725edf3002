"""`plaudit sample`: answers of a model to prompts, as a batch for people to rank."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from plaudit.cli.answers import SamplingConfig, plain_prompt, sampling_of
from plaudit.cli.command import Command, Outcome
from plaudit.cli.in_project import PANEL, ProjectConfig, opened

if TYPE_CHECKING:
    from plaudit.feedback.project import Project


class SampleCommandConfig(ProjectConfig, SamplingConfig):
    """Settings of `plaudit sample`."""

    batch: str = Field(description="Name of the new batch.")
    model: str = Field("smollm2", description="Model that answers: smollm2, a folder, a run, a hub name.")
    prompts: str | None = Field(
        None, description="Prompts to answer, data of any kind; null takes the project's training prompts."
    )
    n: int = Field(4, ge=2, le=9, description="Answers to each prompt, ranked at once.")
    limit: int | None = Field(None, ge=1, description="Answer only so many prompts.")
    overlap: int = Field(1, ge=1, le=100, description="People who judge each task.")
    start: bool = Field(False, description="Give out the tasks at once; otherwise the batch waits as a draft.")
    run: Path | None = Field(None, description="Run folder of the sampling; by default in the project, under samples/.")


def _run(config: SampleCommandConfig) -> Outcome:
    from plaudit.feedback.data.from_runs import answers_of, bring_answers
    from plaudit.feedback.tasks.batches import BatchConfig, list_batches, set_status
    from plaudit.feedback.tasks.guidelines import current
    from plaudit.rollouts.answers import SampleConfig, generate

    with opened(config.project) as project:
        with project.database.read() as c:  # before the sampling, which may take an hour
            current(c)
            _check_free(config.batch, [batch.name for batch in list_batches(c)])
        run = config.run or config.project / "samples" / _folder_name(config.batch)
        settings = SampleConfig.model_validate(
            {
                "run": run,
                "model": config.model,
                "prompts": config.prompts or str(_project_prompts(project, run)),
                "limit": config.limit,
                "sampling": sampling_of(config, config.n),
                "seed": config.seed,
                "template": config.template,
                "system": config.system,
                "precision": config.precision,
            }
        )
        generate(settings)
        rules = BatchConfig.model_validate({"overlap": config.overlap, "responses_per_task": config.n})
        with project.database.write() as c:
            brought = bring_answers(
                c, run, answers_of(run), batch=config.batch, config=rules, by=None, model=config.model
            )
            if config.start:
                set_status(c, brought.batch_id, "running", by=None)
    data = {"batch": config.batch, "run": str(run), **brought._asdict(), "started": config.start}
    skipped = (
        f" {brought.skipped} prompts got one answer only, again and again, and were left out."
        if brought.skipped
        else ""
    )
    state = "They are given out now." if config.start else "The batch is a draft: start it on the batches page."
    return Outcome(
        data, f"{brought.tasks} tasks with {brought.responses} answers are in {config.batch}.{skipped} {state}"
    )


def _check_free(name: str, known: list[str]) -> None:
    from plaudit.core.errors import DataError

    if name in known:
        raise DataError(f"There is a batch named {name} already. Give batch= another name.")


def _folder_name(batch: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in batch.lower())


def _project_prompts(project: "Project", run: Path) -> Path:
    """The project's training prompts in use, as a file beside the run."""
    from sqlalchemy import select

    from plaudit.core.errors import DataError
    from plaudit.core.files import write_jsonl
    from plaudit.feedback.content.content import read_prompt
    from plaudit.feedback.store.tables import prompt

    with project.database.read() as c:
        query = select(prompt.c.messages).where(prompt.c.status == "active", prompt.c.split == "train")
        found = [read_prompt(row) for row in c.execute(query.order_by(prompt.c.sha256))]
    if not found:
        raise DataError(
            "The project has no training prompts. Import some (plaudit import prompts FILE), or give prompts=."
        )
    file = run.with_name(f"{run.name}-prompts.jsonl")
    write_jsonl(file, [{"prompt": plain_prompt(one)} for one in found])
    return file


SAMPLE = Command(
    "sample",
    "Sample answers of a model and put them into a batch for people to rank.",
    (
        "plaudit sample first-answers model=runs/sft prompts=prompts.jsonl project=my-project",
        "plaudit sample second-answers model=runs/ppo n=6 overlap=3 start=true project=my-project",
    ),
    lambda: SampleCommandConfig,
    _run,
    PANEL,
    words=("batch",),
)
