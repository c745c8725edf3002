"""`plaudit snapshot`: a data set that never changes, out of a project's judgments."""

from pydantic import Field

from plaudit.cli.command import Command, Outcome
from plaudit.cli.in_project import PANEL, ProjectConfig, opened
from plaudit.core.config import Config
from plaudit.feedback.data.recipe import Recipe


class SnapshotConfig(ProjectConfig, Recipe):
    """Settings of `plaudit snapshot`: a project and a recipe."""

    preview: bool = Field(False, description="Only count what the recipe takes and leaves out.")


def _run(config: SnapshotConfig) -> Outcome:
    from plaudit.feedback.data.snapshots import create_snapshot, preview

    recipe = Recipe.model_validate({name: getattr(config, name) for name in Recipe.model_fields})
    with opened(config.project) as project:
        if config.preview:
            with project.database.read() as c:
                counted = preview(c, recipe)
            text = (
                f"{counted.rows} rows of {counted.judgments} judgments by {counted.labelers} labelers on "
                f"{counted.prompts} prompts.{_left_out(counted.dropped)}"
            )
            return Outcome({"preview": True, **counted._asdict()}, text)
        made = create_snapshot(project.database, config.project, recipe, by=None)
        path = made.path(config.project)
    manifest = made.manifest
    text = (
        f"{made.label}: {made.rows} {made.kind} of {manifest['judgments']} judgments on {manifest['prompts']} prompts, "
        f"sha256 {made.sha256[:12]}…\n{path}{_left_out(manifest['dropped'])}"
    )
    return Outcome({**manifest, "snapshot": made.label, "file": str(path)}, text)


def _left_out(dropped: object) -> str:
    assert isinstance(dropped, dict)
    return "".join(f"\n  left out: {count} ({cause})" for cause, count in dropped.items() if count)


def _settings() -> type[Config]:
    return SnapshotConfig


SNAPSHOT = Command(
    "snapshot",
    "Make an immutable, hashed data set from a project's judgments; training reads its file.",
    (
        "plaudit snapshot people project=my-project",
        "plaudit snapshot people kind=comparisons aggregate=soft ties=drop project=my-project",
        "plaudit snapshot written kind=demonstrations preview=true project=my-project",
    ),
    _settings,
    _run,
    PANEL,
    words=("name",),
)
