"""`plaudit lineage`: which judgments made a model, and which models used a person's words."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from plaudit.cli.command import Command, Outcome
from plaudit.cli.in_project import PANEL, ProjectConfig, opened

if TYPE_CHECKING:
    from plaudit.feedback.project import Project


class LineageConfig(ProjectConfig):
    """Settings of `plaudit lineage`."""

    run: Path | None = Field(
        None, description="Run folder: find the snapshots it used, itself or through its start, and note the use."
    )
    labeler: str | None = Field(None, description="Pseudonym: list the runs that used this labeler's judgments.")
    snapshot: str | None = Field(
        None, description="Name, or name and version ('people v2'): list the runs that used it."
    )

    @model_validator(mode="after")
    def _one_question(self) -> "LineageConfig":
        given = [name for name in ("run", "labeler", "snapshot") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are different questions; ask one at a time")
        return self


def _run(config: LineageConfig) -> Outcome:
    with opened(config.project) as project:
        if config.run is not None:
            return _of_run(project, config.run)
        if config.labeler is not None:
            return _of_labeler(project, config.labeler)
        return _of_snapshots(project, config.snapshot)


def _of_run(project: "Project", run: Path) -> Outcome:
    from plaudit.feedback.data.lineage import record_run

    with project.database.write() as c:
        made = record_run(c, run)
    lines = [f"{made.run} was made of {made.judgments} judgments, through {', '.join(u.snapshot for u in made.uses)}:"]
    lines += [
        f"  {share.labeler} ({share.kind}), {share.batch}: {share.judgments} judgments, {share.rows} rows"
        for share in made.shares
    ]
    data = {
        "run": made.run,
        "judgments": made.judgments,
        "snapshots": [use._asdict() for use in made.uses],
        "labelers": [share._asdict() for share in made.shares],
    }
    return Outcome(data, "\n".join(lines))


def _of_labeler(project: "Project", pseudonym: str) -> Outcome:
    from plaudit.core.errors import DataError
    from plaudit.feedback.data.lineage import uses_of_member
    from plaudit.feedback.people.members import members

    with project.database.read() as c:
        found = next((one for one in members(c) if one.pseudonym == pseudonym), None)
        if found is None:
            raise DataError(f"The project has no labeler {pseudonym}. Give the pseudonym that its pages show.")
        uses = uses_of_member(c, found.id)
    lines = [f"Judgments of {pseudonym} went into:"] if uses else [f"No recorded run used judgments of {pseudonym}."]
    lines += [
        f"  {use.run} ({use.stage}) through {use.snapshot}: {use.judgments} judgments, {use.written} with own words"
        for use in uses
    ]
    return Outcome({"labeler": pseudonym, "uses": [use._asdict() for use in uses]}, "\n".join(lines))


def _of_snapshots(project: "Project", which: str | None) -> Outcome:
    from plaudit.feedback.data.lineage import uses_of
    from plaudit.feedback.data.snapshots import find_fault, list_snapshots, snapshot_of

    told: list[dict[str, Any]] = []
    lines: list[str] = []
    with project.database.read() as c:
        for one in list_snapshots(c) if which is None else [snapshot_of(c, which)]:
            uses = uses_of(c, one.id)
            fault = find_fault(one, project.folder)
            lines.append(
                f"{one.label}: {one.rows} {one.kind}, sha256 {one.sha256[:12]}…{f' ({fault})' if fault else ''}"
            )
            lines += [f"  used by {use.run} ({use.stage})" for use in uses]
            told.append(
                {"snapshot": one.label, "sha256": one.sha256, "fault": fault, "uses": [use._asdict() for use in uses]}
            )
    return Outcome({"snapshots": told}, "\n".join(lines) or "The project has no snapshot yet.")


LINEAGE = Command(
    "lineage",
    "Say which judgments made a model, or which models used a labeler's judgments.",
    (
        "plaudit lineage run=runs/ppo project=my-project",
        "plaudit lineage labeler=L-7Q2FH project=my-project",
        "plaudit lineage project=my-project",
    ),
    lambda: LineageConfig,
    _run,
    PANEL,
)
