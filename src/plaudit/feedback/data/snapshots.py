"""Snapshots: data sets that never change, with a manifest that says what they are and what was left out of them.

A snapshot is a file of canonical JSON lines and a manifest beside it, in the project's folder `snapshots/`, and rows in
the database that tie each line to the judgments it was made of. The file's hash is its identity: training writes it
down, and refuses a file whose hash is no longer the manifest's.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, insert, select

from plaudit.core.environment import describe_environment
from plaudit.core.errors import DataError
from plaudit.core.files import explain_write_errors, json_line, sha256_file, write_json, write_lines
from plaudit.core.records import prompt_key
from plaudit.datasets.manifest import manifest_path
from plaudit.feedback import audit_log
from plaudit.feedback.data.recipe import Recipe
from plaudit.feedback.data.snapshot_query import Selection, select_judgments
from plaudit.feedback.data.snapshot_rows import lines
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store import clock, tables
from plaudit.feedback.store.database import Database
from plaudit.feedback.store.tables import new_id

FORMAT = "plaudit snapshot 1"
FOLDER = "snapshots"
_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot as the database knows it."""

    id: str
    name: str
    version: int
    kind: str
    rows: int
    sha256: str
    recipe: Recipe
    manifest: Mapping[str, Any]
    created_at: int

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self.name} v{self.version}"

    def path(self, project: Path) -> Path:
        """Its file in the project's folder."""
        return snapshot_path(project, self.name, self.version)


class Preview(NamedTuple):
    """What a recipe would make."""

    rows: int
    judgments: int
    prompts: int
    labelers: int
    dropped: Mapping[str, int]


def snapshot_path(project: Path, name: str, version: int) -> Path:
    """Where the file of a snapshot lies."""
    return project / FOLDER / f"{name}-v{version}.jsonl"


def preview(c: Connection, recipe: Recipe) -> Preview:
    """Count what a recipe would make, without making it.

    Raises FeedbackError "not_found" for an unknown batch, DataError as `create_snapshot`.
    """
    found = select_judgments(c, recipe)
    rows = sum(1 for _ in lines(found.picked, recipe))
    prompts = {prompt_key(one.prompt) for one in found.picked}
    labelers = {one.labeler for one in found.picked}
    return Preview(rows, len(found.picked), len(prompts), len(labelers), dict(found.dropped))


def create_snapshot(database: Database, project: Path, recipe: Recipe, *, by: str | None) -> Snapshot:
    """Make a snapshot. If the newest one of this name came from the same recipe to the same bytes, it is returned.

    project: the project's folder. The file is written, flushed, put in place, read back and compared before the
    database knows of it.

    Raises:
        DataError: the recipe takes nothing; reliability cannot be estimated; the file was not written as it should be.
        FeedbackError: "not_found", a batch does not exist.
        RunError: the file cannot be written.
    """
    # Reading and writing to disk take seconds, during which labelers must be able to submit: no write transaction yet.
    with database.read() as c:
        found = select_judgments(c, recipe)
    if not found.picked:
        raise DataError(f"The recipe of {recipe.name} takes no judgment. {_explain(found.dropped)}")
    draft = project / FOLDER / f".{recipe.name}-{new_id()}.jsonl"
    try:
        content = _write(draft, found, recipe)
        with database.write() as c:
            return _keep(c, project, draft, content, found, recipe, by)
    finally:
        draft.unlink(missing_ok=True)


class _Content(NamedTuple):
    """What was written: number of rows, hash, and the submissions behind each row."""

    rows: int
    sha256: str
    sources: list[tuple[int, str]]


def _write(draft: Path, found: Selection, recipe: Recipe) -> _Content:
    total = hashlib.sha256()
    sources: list[tuple[int, str]] = []

    def texts() -> Iterator[str]:
        for number, line in enumerate(lines(found.picked, recipe), start=1):
            text = json_line(line.row)
            total.update(text.encode("utf-8") + b"\n")
            sources.extend((number, submission) for submission in line.submissions)
            yield text

    rows = write_lines(draft, texts())
    if rows == 0:
        raise DataError(f"The recipe of {recipe.name} leaves no row: all that it takes are ties. Use ties=keep.")
    if sha256_file(draft) != total.hexdigest():
        raise DataError(f"{draft} does not hold what was written to it. Check the disk, then make the snapshot again.")
    return _Content(rows, total.hexdigest(), sources)


def _keep(
    c: Connection, project: Path, draft: Path, content: _Content, found: Selection, recipe: Recipe, by: str | None
) -> Snapshot:
    """Give the written file its version and its place. Until the transaction ends nobody knows of it."""
    version = c.scalar(select(func.max(tables.snapshot.c.version)).where(tables.snapshot.c.name == recipe.name)) or 0
    if version:
        before = snapshot_of(c, f"{recipe.name} v{version}")
        if before.sha256 == content.sha256 and before.recipe == recipe:
            return before
    path = snapshot_path(project, recipe.name, version + 1)
    manifest = _manifest(found, recipe, version + 1, path.name, content)
    with explain_write_errors(path):
        os.replace(draft, path)
    write_json(manifest_path(path), manifest)  # flushes the folder too
    snapshot_id = _store(c, recipe, version + 1, content, manifest, by)
    return snapshot_of(c, snapshot_id)


def list_snapshots(c: Connection) -> list[Snapshot]:
    """All snapshots, the newest first."""
    table = tables.snapshot
    return [_snapshot(row) for row in c.execute(select(table).order_by(table.c.created_at.desc(), table.c.id))]


def snapshot_of(c: Connection, which: str) -> Snapshot:
    """A snapshot by its id, its label (`people v2`), or its name: then the newest version.

    Raises FeedbackError "not_found".
    """
    table = tables.snapshot
    name, _, version = which.rpartition(" v")
    conditions = [table.c.id == which, table.c.name == which]
    if name and version.isdigit():
        conditions.append((table.c.name == name) & (table.c.version == int(version)))
    for condition in conditions:
        row = c.execute(select(table).where(condition).order_by(table.c.version.desc()).limit(1)).first()
        if row is not None:
            return _snapshot(row)
    raise FeedbackError("not_found", f"There is no snapshot {which}.", status=404)


def find_fault(snapshot: Snapshot, project: Path) -> str | None:
    """What is wrong with the snapshot's file; None if it is what it was."""
    path = snapshot.path(project)
    if not path.is_file():
        return f"{path} is missing"
    return None if sha256_file(path) == snapshot.sha256 else f"{path} was changed"


def _manifest(found: Selection, recipe: Recipe, version: int, file: str, content: _Content) -> dict[str, Any]:
    used = {submission for _, submission in content.sources}
    taken = [one for one in found.picked if one.submission_id in used]
    dropped = found.dropped + Counter({"left no row (a tie, or a labeler of weight 0)": len(found.picked) - len(taken)})
    return {
        "format": FORMAT,
        "name": recipe.name,
        "version": version,
        "file": file,
        "kind": recipe.kind,
        "rows": content.rows,
        "sha256": content.sha256,
        "judgments": len(taken),
        "prompts": len({prompt_key(one.prompt) for one in taken}),
        "labelers": dict(sorted(Counter({one.labeler: one.kind for one in taken}.values()).items())),
        "dropped": {cause: count for cause, count in dropped.most_common() if count},
        "guidelines": [{"version": number, "sha256": text} for number, text in found.guidelines.items()],
        "origins": found.origins,
        "licences": sorted({one["licence"] for one in found.origins if one["licence"]}),
        "recipe": recipe.model_dump(mode="json"),
        "code": {"plaudit": installed_version("plaudit"), "commit": describe_environment({})["commit"]},
        "created_at": datetime.fromtimestamp(clock.now() / 1000, UTC).isoformat(timespec="seconds"),
    }


def _store(
    c: Connection, recipe: Recipe, version: int, content: _Content, manifest: Mapping[str, Any], by: str | None
) -> str:
    new = new_id()
    c.execute(
        insert(tables.snapshot).values(
            id=new,
            name=recipe.name,
            version=version,
            kind=recipe.kind,
            recipe=recipe.model_dump(mode="json"),
            rows=content.rows,
            content_sha256=content.sha256,
            manifest=dict(manifest),
            created_by=by,
            created_at=clock.now(),
        )
    )
    for start in range(0, len(content.sources), _AT_ONCE):
        part = [
            {"snapshot_id": new, "row_no": number, "submission_id": submission}
            for number, submission in content.sources[start : start + _AT_ONCE]
        ]
        c.execute(insert(tables.snapshot_source), part)
    audit_log.record(c, "snapshot.create", "snapshot", new, {"rows": content.rows, "sha256": content.sha256}, by=by)
    return new


def _snapshot(row: Row[Any]) -> Snapshot:
    return Snapshot(
        row.id,
        row.name,
        row.version,
        row.kind,
        row.rows,
        row.content_sha256,
        Recipe.model_validate(row.recipe),
        row.manifest,
        row.created_at,
    )


def _explain(dropped: Counter[str]) -> str:
    told = ", ".join(f"{cause}: {count}" for cause, count in dropped.most_common() if count)
    return f"Left out: {told}." if told else "There are no such judgments yet."
