"""The home page: what is next, and how far one is. Nobody is compared with anybody."""

from dataclasses import dataclass

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback.store import clock
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.tasks.guidelines import Guideline
from plaudit.feedback.work import own_progress
from plaudit.feedback.work.own_progress import OpenTask, OwnBatch
from plaudit.web.visit import Labeler

router = APIRouter()


@dataclass(frozen=True)
class Step:
    """A step on the way to work: `batches` are those to do in it."""

    name: str
    purpose: str
    done: bool
    batches: list[OwnBatch]


@router.get("/")
def home(member: Labeler, done: str = "") -> Response:
    """Where a labeler stands."""
    with member.read() as connection:
        batches = own_progress.own_batches(connection, member.account.id)
        held: list[OpenTask] = own_progress.open_tasks(connection, member.account.id)
        published = [one for one in guidelines.history(connection) if one.status == "published"]
        today = own_progress.submitted_since(connection, member.account.id, clock.now() - clock.DAY)
    guideline: Guideline | None = published[0] if published else None
    return member.page(
        "home.html",
        steps=_steps(batches),
        work=[one for one in batches if one.batch.purpose == "work"],
        held=held,
        held_batches={one.batch.id for one in held},
        guideline=guideline,
        today=today,
        total=sum(one.submitted for one in batches if one.batch.purpose == "work"),
        done=done if done.isalnum() else "",
    )


def _steps(batches: list[OwnBatch]) -> list[Step]:
    steps: list[Step] = []
    for name, purpose in (("Training", "training"), ("Qualification", "qualification")):
        found = [one for one in batches if one.batch.purpose == purpose]
        if found:
            steps.append(Step(name, purpose, all(one.submitted >= (one.total or 0) for one in found), found))
    return steps
