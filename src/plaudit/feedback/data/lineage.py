"""Which judgments made a model, and which models used a person's words: the same rows, read from both ends.

Training does not know the database. It writes the hash of its data into the run folder, and a snapshot is recognised by
that hash; a run that starts from another run's model inherits what that one was made of.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection, func, insert, select

from plaudit.core.errors import RunError
from plaudit.core.files import sha256_tree
from plaudit.core.run import is_run, read_config, read_inputs
from plaudit.feedback import audit_log
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store import clock
from plaudit.feedback.store.tables import (
    assignment,
    batch,
    member,
    new_id,
    snapshot,
    snapshot_source,
    snapshot_use,
    submission,
    submission_text,
    task,
)

MODEL = "model"  # the folder of a run's result
_LONGEST_PATH = 240  # characters; system messages and templates are longer, and no file system takes such a name


class Use(NamedTuple):
    """A snapshot and a run that used it."""

    snapshot: str
    snapshot_id: str
    run: str
    stage: str
    model_sha256: str | None
    at: int


class Share(NamedTuple):
    """How much of what made a model is one labeler's, in one batch."""

    labeler: str
    kind: str
    batch: str
    judgments: int
    rows: int


@dataclass(frozen=True, slots=True)
class Made:
    """What a run was made of: `uses` of snapshots, and the judgments behind them."""

    run: str
    uses: tuple[Use, ...]
    judgments: int
    shares: tuple[Share, ...]


class MemberUse(NamedTuple):
    """A run that used judgments of one member. `written`: how many of them are words, demonstrations or reasons."""

    snapshot: str
    run: str
    stage: str
    model_sha256: str | None
    judgments: int
    written: int


def record_use(
    c: Connection, snapshot_id: str, run: str, stage: str, *, model_sha256: str | None = None, by: str | None = None
) -> bool:
    """Note that a run used a snapshot; False if that is known already."""
    use = snapshot_use.c
    known = (use.snapshot_id == snapshot_id) & (use.run == run) & (use.stage == stage)
    if c.execute(select(use.id).where(known)).first():
        return False
    new = new_id()
    c.execute(
        insert(snapshot_use).values(
            id=new, snapshot_id=snapshot_id, run=run, stage=stage, model_sha256=model_sha256, created_at=clock.now()
        )
    )
    audit_log.record(c, "snapshot.use", "snapshot", snapshot_id, {"run": run, "stage": stage}, by=by)
    return True


def record_run(c: Connection, folder: Path, *, by: str | None = None) -> Made:
    """Find the snapshots of this project that a run used, itself or through the runs it started from, and note it.

    Raises:
        RunError: the folder is no run.
        FeedbackError: "not_found", the run used no snapshot of this project.
    """
    if not is_run(folder):
        raise RunError(f"{folder} is no run folder: it has no config.yaml and inputs.json. Give the folder of a run.")
    hashes = {content for ancestor in ancestors(folder) for content in read_inputs(ancestor)["inputs"].values()}
    found = c.execute(select(snapshot.c.id).where(snapshot.c.content_sha256.in_(sorted(hashes)))).scalars().all()
    if not found:
        raise FeedbackError(
            "not_found",
            f"{folder} used no snapshot of this project, nor did the runs it started from. Train on the file that "
            "`plaudit snapshot` makes, or give another project=.",
            status=404,
        )
    run, stage = str(folder.resolve()), read_inputs(folder)["stage"]
    model = sha256_tree(folder / MODEL) if (folder / MODEL).is_dir() else None
    for snapshot_id in found:
        record_use(c, snapshot_id, run, stage, model_sha256=model, by=by)
    return made_of(c, run)


def ancestors(folder: Path) -> Iterator[Path]:
    """A run and the runs whose results it started from, told by the settings and confirmed by the hashes."""
    waiting, seen = [folder.resolve()], set[Path]()
    while waiting:
        run = waiting.pop()
        if run in seen:
            continue
        seen.add(run)
        yield run
        inputs = set(read_inputs(run)["inputs"].values())
        for name in _paths(read_config(run)):
            for place in _places(name, run):
                if is_run(place) and (place / MODEL).is_dir() and sha256_tree(place / MODEL) in inputs:
                    waiting.append(place.resolve())
                    break


def made_of(c: Connection, run: str) -> Made:
    """What a recorded run was made of, by labeler and batch, the largest share first."""
    uses = tuple(_uses(c, snapshot_use.c.run == run))
    used = select(snapshot_use.c.snapshot_id).where(snapshot_use.c.run == run)
    judgments = func.count(func.distinct(snapshot_source.c.submission_id))
    query = (
        select(member.c.pseudonym, member.c.kind, batch.c.name, judgments.label("judgments"), func.count())
        .select_from(snapshot_source)
        .join(submission, submission.c.id == snapshot_source.c.submission_id)
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .join(member, member.c.id == assignment.c.member_id)
        .join(task, task.c.id == assignment.c.task_id)
        .join(batch, batch.c.id == task.c.batch_id)
        .where(snapshot_source.c.snapshot_id.in_(used))
        .group_by(member.c.pseudonym, member.c.kind, batch.c.name)
        .order_by(judgments.desc(), member.c.pseudonym, batch.c.name)
    )
    shares = tuple(Share(*row) for row in c.execute(query))
    return Made(run, uses, sum(share.judgments for share in shares), shares)


def uses_of(c: Connection, snapshot_id: str) -> list[Use]:
    """The runs that used a snapshot, the newest first."""
    return list(_uses(c, snapshot_use.c.snapshot_id == snapshot_id))


def uses_of_member(c: Connection, member_id: str) -> list[MemberUse]:
    """The runs that used judgments of a member, the newest first."""
    judgments = func.count(func.distinct(snapshot_source.c.submission_id))
    words = func.count(func.distinct(submission_text.c.submission_id))
    query = (
        select(
            snapshot.c.name,
            snapshot.c.version,
            snapshot_use.c.run,
            snapshot_use.c.stage,
            snapshot_use.c.model_sha256,
            judgments.label("judgments"),
            words.label("written"),
        )
        .select_from(snapshot_use)
        .join(snapshot, snapshot.c.id == snapshot_use.c.snapshot_id)
        .join(snapshot_source, snapshot_source.c.snapshot_id == snapshot.c.id)
        .join(submission, submission.c.id == snapshot_source.c.submission_id)
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .outerjoin(submission_text, submission_text.c.submission_id == submission.c.id)
        .where(assignment.c.member_id == member_id)
        .group_by(
            snapshot.c.name,
            snapshot.c.version,
            snapshot_use.c.run,
            snapshot_use.c.stage,
            snapshot_use.c.model_sha256,
            snapshot_use.c.created_at,
        )
        .order_by(snapshot_use.c.created_at.desc(), snapshot_use.c.run)
    )
    return [
        MemberUse(f"{row.name} v{row.version}", row.run, row.stage, row.model_sha256, row.judgments, row.written)
        for row in c.execute(query)
    ]


def all_uses(c: Connection) -> list[Use]:
    """Every recorded use, the newest first."""
    return list(_uses(c, snapshot_use.c.id.is_not(None)))


def _uses(c: Connection, condition: Any) -> Iterator[Use]:
    query = (
        select(snapshot_use, snapshot.c.name, snapshot.c.version)
        .join(snapshot, snapshot.c.id == snapshot_use.c.snapshot_id)
        .where(condition)
        .order_by(snapshot_use.c.created_at.desc(), snapshot_use.c.run, snapshot.c.name)
    )
    for row in c.execute(query):
        yield Use(f"{row.name} v{row.version}", row.snapshot_id, row.run, row.stage, row.model_sha256, row.created_at)


def _paths(value: Any) -> Iterator[str]:
    """Every text among the settings that could be a path."""
    if isinstance(value, str) and 0 < len(value) <= _LONGEST_PATH:
        yield value
    elif isinstance(value, dict | list):
        inside = cast(dict[str, Any], value).values() if isinstance(value, dict) else cast(list[Any], value)
        for inner in inside:
            yield from _paths(inner)


def _places(name: str, run: Path) -> Iterator[Path]:
    """Where a path in a run's settings may lie now: as it is written, or as it lay to the run when it was made."""
    path = Path(name)
    yield path
    if not path.is_absolute():
        for folder in run.parents:
            yield folder / path
