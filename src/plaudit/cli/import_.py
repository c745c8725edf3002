"""`plaudit import`: prompts, responses and other people's judgments from a file into a labeling project."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from plaudit.cli.command import EXIT_FINDINGS, Command, Outcome
from plaudit.cli.in_project import PANEL, ProjectConfig, opened

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from plaudit.feedback.content.import_files import Checked


class ImportConfig(ProjectConfig):
    """Settings of `plaudit import`."""

    what: Literal["prompts", "responses", "rankings", "demonstrations"] = Field(
        description="Prompts; prompts with responses to be ranked; or what named labelers judged or wrote elsewhere."
    )
    file: Path = Field(
        description="JSON lines, JSON, CSV or Parquet: Plaudit's own fields, TRL columns, HH transcripts, Argilla, "
        "Label Studio."
    )
    dry_run: bool = Field(False, description="Only say what would happen, and every fault with its line.")
    batch: str | None = Field(None, description="Name of the batch of judgments; the file's name if not given.")
    labelers: Literal["person", "ai", "simulated"] = Field("person", description="What the labelers of the file are.")
    labeler: str | None = Field(None, description="Who judged the rows that name nobody.")
    model: str | None = Field(None, description="Whose responses these are, where the rows do not say it.")
    licence: str | None = Field(None, description="Licence of the file; it goes into the manifests of data sets.")


def _run(config: ImportConfig) -> Outcome:
    from plaudit.core.errors import DataError
    from plaudit.feedback.content.import_files import check_file
    from plaudit.feedback.content.importing import rehearse

    with opened(config.project) as project:
        checked = check_file(config.file, config.what)
        if config.dry_run and checked.faulty:
            return _faults(checked)
        if config.dry_run:
            # Storing may find faults too: of times, flags, orders.
            try:
                data = rehearse(project.database, lambda c: _import(c, checked, config))
            except DataError:
                if checked.faulty:
                    return _faults(checked)
                raise
            return Outcome({"dry_run": True, **data}, f"Would import {_describe(data)}\nNothing was changed.")
        with project.database.write() as c:
            data = _import(c, checked, config)
    return Outcome(data, f"Imported {_describe(data)}")


def _import(c: "Connection", checked: "Checked", config: ImportConfig) -> dict[str, Any]:
    from plaudit.feedback.content.importing import import_prompts, import_responses
    from plaudit.feedback.data.recorded import import_judgments

    if config.what in ("prompts", "responses"):
        if config.what == "prompts":
            texts = import_prompts(c, checked, by=None, licence=config.licence)
        else:
            texts = import_responses(c, checked, by=None, licence=config.licence, model=config.model)
        return {
            "file": checked.name,
            "rows": texts.rows,
            "new_prompts": texts.new_prompts,
            "known_prompts": texts.known_prompts,
            "new_responses": texts.new_responses,
            "known_responses": texts.known_responses,
        }
    found = import_judgments(
        c,
        checked,
        by=None,
        name=config.batch,
        kind=config.labelers,
        labeler=config.labeler,
        licence=config.licence,
    )
    return {"file": checked.name, **found._asdict(), "batches": list(found.batches)}


def _describe(data: dict[str, Any]) -> str:
    if "judgments" in data:
        left = "".join(f"\n  left out: {count} ({cause})" for cause, count in data["left_out"].items())
        return (
            f"{data['judgments']} judgments by {data['labelers']} labelers ({data['new_labelers']} of them new here) "
            f"on {data['tasks']} tasks, into {', '.join(data['batches'])}.{left}"
        )
    responses = f", {data['new_responses']} new responses" if data["new_responses"] else ""
    return f"{data['new_prompts']} new prompts{responses}; {data['known_prompts']} prompts were known."


def _faults(checked: "Checked") -> Outcome:
    problems = [problem._asdict() for problem in checked.problems]
    lines = [f"{checked.name}:{problem.line}: {problem.message}" for problem in checked.problems]
    if checked.faulty > len(lines):
        lines.append(f"and {checked.faulty - len(lines)} more")
    text = "\n".join([*lines, f"{checked.faulty} rows cannot be imported; {len(checked.rows)} can."])
    return Outcome({"dry_run": True, "faulty": checked.faulty, "problems": problems}, text, EXIT_FINDINGS)


IMPORT = Command(
    "import",
    "Bring prompts, responses, or judgments that people made elsewhere into a labeling project.",
    (
        "plaudit import prompts prompts.jsonl project=my-project",
        "plaudit import rankings rankings.jsonl --dry-run",
        "plaudit import rankings hh.jsonl labeler=crowd licence=MIT project=my-project",
    ),
    lambda: ImportConfig,
    _run,
    PANEL,
    words=("what", "file"),
    switches=("dry_run",),
)
