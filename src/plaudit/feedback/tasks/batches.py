"""Batches: what is to be judged, by how many, under which rules; from draft to closed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, ValidationError, model_validator
from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from plaudit.core.config import Config
from plaudit.feedback import audit_log
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store import clock
from plaudit.feedback.store.tables import MAX_RESPONSES, assignment, batch, gold_key, guideline, member, new_id, task
from plaudit.feedback.tasks import guidelines

Kind = Literal["demonstration", "ranking"]
Purpose = Literal["work", "training", "qualification"]
Status = Literal["draft", "running", "paused", "closed"]

# From which status to which; a closed batch stays closed, because data sets may have been made of it.
_STEPS: dict[Status, frozenset[Status]] = {
    "draft": frozenset({"running", "closed"}),
    "running": frozenset({"paused", "closed"}),
    "paused": frozenset({"running", "closed"}),
    "closed": frozenset(),
}
MAX_GOLD_RATE = 0.25  # above it, gold questions that never follow each other are impossible to keep random


class Adaptive(Config):
    """More judgments where people disagree."""

    maximum: int = Field(4, ge=2, le=100, description="Most judgments that a task may get.")
    below: float = Field(
        0.5, gt=0, le=1, description="Ask one more person while the labelers' agreement on a task is below this."
    )
    audited_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of tasks, drawn at random, that get the maximum from the start: agreement measured on them "
        "is not distorted by asking more people where they disagree.",
    )


class BatchConfig(Config):
    """How the tasks of a batch are given out."""

    overlap: int = Field(1, ge=1, le=100, description="People who judge each task.")
    adaptive: Adaptive | None = Field(None, description="More judgments where people disagree; null: never.")
    gold_rate: float = Field(
        1 / 15, ge=0, le=MAX_GOLD_RATE, description="Share of gold questions among a person's tasks."
    )
    gold_rate_start: float = Field(
        0.2, ge=0, le=MAX_GOLD_RATE, description="The same for a person's first tasks, see gold_start."
    )
    gold_start: int = Field(20, ge=0, description="Number of a person's tasks at which gold_rate takes over.")
    responses_per_task: int = Field(4, ge=2, le=MAX_RESPONSES, description="Most responses ranked at once.")
    reason_required: bool = Field(False, description="Whether an answer needs a written reason.")
    ask_confidence: bool = Field(True, description="Whether labelers are asked how sure they are.")
    blur: bool = Field(False, description="Whether texts are blurred until the labeler opens them.")
    lease_minutes: int = Field(30, ge=1, le=480, description="How long a task stays reserved without a sign of life.")
    after_skip: Literal["others", "later"] = Field(
        "others",
        description="Whether a skipped task goes to other people only, or comes back to the same one at the end.",
    )
    skips_to_retire: int = Field(
        3,
        ge=0,
        description="Skips as unclear, distressing or broken after which nobody gets the task any more; 0: never.",
    )
    pass_mark: float = Field(
        0.8, gt=0, le=1, description="Mean score on the gold questions that passes, in a qualification batch."
    )

    @model_validator(mode="after")
    def _maximum_above_overlap(self) -> Self:
        if self.adaptive is not None and self.adaptive.maximum <= self.overlap:
            raise ValueError(
                f"adaptive.maximum {self.adaptive.maximum} leaves nothing to add to overlap {self.overlap}: raise it"
            )
        return self


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it stands."""

    id: str
    name: str
    kind: Kind
    purpose: Purpose
    status: Status
    guideline_id: str
    guideline_version: int
    config: BatchConfig
    created_at: int


def create_batch(c: Connection, name: str, kind: Kind, purpose: Purpose, config: BatchConfig, *, by: str | None) -> str:
    """A new batch in draft, under the current guidelines. Returns its id.

    Raises FeedbackError "name_taken", "no_guideline" or "invalid_batch".
    """
    name = name.strip()
    if not name or len(name) > 120:
        raise FeedbackError("invalid_batch", "A batch needs a name of 1 to 120 characters.", status=422)
    if c.execute(select(batch.c.id).where(batch.c.name == name)).first():
        raise FeedbackError("name_taken", f"There is a batch named {name} already. Choose another name.")
    if kind == "demonstration" and (config.adaptive or purpose != "work"):
        raise FeedbackError(
            "invalid_batch",
            "Agreement and expected answers are about rankings: a batch of demonstrations has no adaptive overlap and "
            "is for work only.",
            status=422,
        )
    batch_id = new_id()
    c.execute(
        insert(batch).values(
            id=batch_id,
            name=name,
            kind=kind,
            status="draft",
            purpose=purpose,
            guideline_id=guidelines.current(c).id,
            config=config.model_dump(mode="json"),
            created_at=clock.now(),
        )
    )
    audit_log.record(c, "batch.create", "batch", batch_id, {"kind": kind, "purpose": purpose}, by=by)
    return batch_id


_LISTED = (
    select(batch, guideline.c.version)
    .join(guideline, guideline.c.id == batch.c.guideline_id)
    .order_by(batch.c.created_at, batch.c.id)
)
_RUNNING = _LISTED.where(batch.c.status == "running", batch.c.purpose == bindparam("purpose"))


def get_batch(c: Connection, batch_id: str) -> Batch:
    """Raises FeedbackError "not_found"."""
    found = list_batches(c, batch_ids=[batch_id])
    if not found:
        raise FeedbackError("not_found", f"There is no batch {batch_id}.", status=404)
    return found[0]


def list_batches(c: Connection, *, batch_ids: Sequence[str] | None = None) -> list[Batch]:
    """All batches, or those of the given ids, oldest first."""
    query = _LISTED
    if batch_ids is not None:
        query = query.where(batch.c.id.in_(batch_ids))
    return [_batch(row) for row in c.execute(query)]


def running_batches(c: Connection, purpose: Purpose, batch_id: str | None = None) -> list[Batch]:
    """The batches that give out tasks for `purpose`, oldest first; only `batch_id` if given."""
    rows = c.execute(_RUNNING, {"purpose": purpose})
    return [_batch(row) for row in rows if batch_id in (None, row.id)]


def set_status(c: Connection, batch_id: str, status: Status, *, by: str | None) -> None:
    """Run, pause or close a batch. Leases go on: what somebody is working on can be submitted, also after closing.

    Raises FeedbackError "not_found", "wrong_status" or "no_tasks".
    """
    found = _locked(c, batch_id)
    if found.status == status:
        return
    if status not in _STEPS[found.status]:
        raise FeedbackError("wrong_status", f"A batch that is {found.status} cannot become {status}.")
    if status == "running" and not c.execute(select(task.c.id).where(task.c.batch_id == batch_id).limit(1)).first():
        raise FeedbackError("no_tasks", "The batch has no tasks yet. Add some, then run it.")
    c.execute(update(batch).where(batch.c.id == batch_id).values(status=status))
    audit_log.record(c, f"batch.{status}", "batch", batch_id, {"before": found.status}, by=by)


def set_config(c: Connection, batch_id: str, config: BatchConfig, *, by: str | None) -> None:
    """Change the rules of a batch. Overlap and adaptive hold for tasks added from now on.

    Raises FeedbackError "not_found" or "wrong_status".
    """
    found = _locked(c, batch_id)
    if found.status == "closed":
        raise FeedbackError("wrong_status", "A closed batch keeps its settings.")
    if found.kind == "demonstration" and config.adaptive:
        raise FeedbackError("invalid_batch", "A batch of demonstrations has no adaptive overlap.", status=422)
    c.execute(update(batch).where(batch.c.id == batch_id).values(config=config.model_dump(mode="json")))
    changed = sorted(key for key, value in config.model_dump().items() if value != found.config.model_dump()[key])
    audit_log.record(c, "batch.config", "batch", batch_id, {"changed": changed}, by=by)


def parse_config(tree: dict[str, Any]) -> BatchConfig:
    """Settings out of a form or an API call.

    Raises FeedbackError "invalid_batch" with all that is wrong.
    """
    try:
        return BatchConfig.model_validate(tree)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc'])) or 'settings'}: {one['msg']}" for one in error.errors()]
        raise FeedbackError("invalid_batch", "; ".join(lines), status=422) from None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is. Gold questions are counted nowhere: they are never finished."""

    tasks: int
    complete: int
    retired: int
    asked: int  # judgments, of tasks that are not retired
    done: int
    leased: int  # in work now
    labelers: int  # people who submitted something


def progress(c: Connection, batch_id: str) -> Progress:
    """Counts of a batch's ordinary tasks and judgments. In a training or qualification batch all tasks are gold."""
    ordinary = (task.c.batch_id == batch_id) & ~select(gold_key).where(gold_key.c.task_id == task.c.id).exists()
    kept = task.c.status != "retired"
    row = c.execute(
        select(
            func.count(),
            func.count().filter(task.c.status == "complete"),
            func.count().filter(task.c.status == "retired"),
            func.coalesce(func.sum(task.c.overlap).filter(kept), 0),
            func.coalesce(func.sum(task.c.submitted).filter(kept), 0),
            func.coalesce(func.sum(task.c.slots_taken - task.c.submitted), 0),
        ).where(ordinary)
    ).one()
    labelers = c.execute(
        select(func.count(func.distinct(assignment.c.member_id)))
        .join(task, task.c.id == assignment.c.task_id)
        .where(task.c.batch_id == batch_id, assignment.c.state == "submitted")
    ).scalar_one()
    return Progress(*(int(value) for value in row), labelers=labelers)


class LabelerCount(NamedTuple):
    """Submitted judgments of one labeler in a batch."""

    pseudonym: str
    submitted: int


def labeler_counts(c: Connection, batch_id: str) -> list[LabelerCount]:
    """Who submitted how much, most first."""
    count = func.count().label("submitted")
    rows = c.execute(
        select(member.c.pseudonym, count)
        .join(assignment, assignment.c.member_id == member.c.id)
        .join(task, task.c.id == assignment.c.task_id)
        .where(task.c.batch_id == batch_id, assignment.c.state == "submitted")
        .group_by(member.c.pseudonym)
        .order_by(count.desc(), member.c.pseudonym)
    )
    return [LabelerCount(*row) for row in rows]


def _batch(row: Row[Any]) -> Batch:
    return Batch(
        row.id,
        row.name,
        row.kind,
        row.purpose,
        row.status,
        row.guideline_id,
        row.version,
        BatchConfig.model_validate(row.config),
        row.created_at,
    )


def _locked(c: Connection, batch_id: str) -> Batch:
    c.execute(select(batch.c.id).where(batch.c.id == batch_id).with_for_update(key_share=True))
    return get_batch(c, batch_id)
