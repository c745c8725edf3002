"""`plaudit export`: a project's rankings as a file of another tool."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from plaudit.cli.command import Command, Outcome
from plaudit.cli.in_project import PANEL, ProjectConfig, opened
from plaudit.cli.output import check_free


class ExportConfig(ProjectConfig):
    """Settings of `plaudit export`."""

    format: Literal["plaudit", "trl", "hh", "argilla", "label-studio"] = Field(
        description="Plaudit JSON lines; TRL preference columns; HH transcripts; Argilla records; Label Studio tasks."
    )
    out: Path = Field(description="JSON lines to write.")
    batches: tuple[str, ...] | None = Field(None, description="Names of batches; null takes all that are for work.")
    labelers: tuple[Literal["person", "ai", "simulated"], ...] = Field(("person",), description="Kinds of labelers.")
    criterion: str | None = Field(None, description="Only judgments by this criterion.")
    overwrite: bool = Field(False, description="Replace `out` if it exists.")


def _run(config: ExportConfig) -> Outcome:
    from plaudit.core.errors import DataError
    from plaudit.core.files import write_jsonl
    from plaudit.feedback.data.exporting import export
    from plaudit.feedback.data.judgments import load_judgments
    from plaudit.feedback.tasks.batches import list_batches

    check_free(config.out, overwrite=config.overwrite)
    with opened(config.project) as project, project.database.read() as c:
        ids = None
        if config.batches is not None:
            known = {batch.name: batch.id for batch in list_batches(c)}
            if missing := [name for name in config.batches if name not in known]:
                raise DataError(f"There is no batch named {', '.join(missing)}. There are: {', '.join(known)}.")
            ids = [known[name] for name in config.batches]
        found = load_judgments(c, batches=ids, kinds=config.labelers)
    # The answers to gold questions are known beforehand: they measure labelers, and are no data.
    kept = [one for one in found if one.gold is None and config.criterion in (None, one.criterion)]
    if not kept:
        raise DataError(
            f"The project has no ranking by labelers of the kind {', '.join(config.labelers)} that fits. Name other "
            "batches=, labelers= or criterion=."
        )
    exported = export(kept, config.format)
    write_jsonl(config.out, exported.rows)
    left = "".join(f"\n  left out: {count} ({cause})" for cause, count in exported.left_out.items())
    data = {"out": str(config.out), "judgments": len(kept), "rows": len(exported.rows), "left_out": exported.left_out}
    return Outcome(data, f"{len(exported.rows)} rows of {len(kept)} judgments are in {config.out}.{left}")


EXPORT = Command(
    "export",
    "Write a project's rankings as a file of another tool. For training, make a snapshot.",
    (
        "plaudit export trl pairs.jsonl project=my-project",
        "plaudit export argilla records.jsonl batches=[first] project=my-project",
    ),
    lambda: ExportConfig,
    _run,
    PANEL,
    words=("format", "out"),
)
