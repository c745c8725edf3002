"""The first page of the administration: how the work goes, and what waits for somebody."""

from typing import NamedTuple

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback.overview import Overview, overview
from plaudit.feedback.people import members
from plaudit.feedback.tasks import batches
from plaudit.web.visit import Admin

router = APIRouter(prefix="/admin")


class Attention(NamedTuple):
    """Something that waits, and where to look."""

    what: str
    words: str
    path: str
    link: str


class Step(NamedTuple):
    """A step of setting a project up."""

    words: str
    path: str
    done: bool


@router.get("")
def page(member: Admin) -> Response:
    """The page."""
    with member.read() as connection:
        now = overview(connection)
        found = batches.list_batches(connection)
        running = [(one, batches.progress(connection, one.id)) for one in found if one.status in ("running", "paused")]
        people = sum(one.kind == "person" for one in members.members(connection))
    steps = (
        Step("Write and publish the guidelines", "/admin/guidelines", now.published),
        Step("Import prompts, or prompts with answers", "/admin/import", now.prompts > 0),
        Step("Make a batch of them and run it", "/admin/batches", any(one.status != "draft" for one in found)),
        Step("Invite people", "/admin/members", people > 1 or now.open_invites > 0),
    )
    return member.page(
        "admin_overview.html",
        now=now,
        running=running,
        attention=attention(now),
        first_steps=[] if all(step.done for step in steps) else steps,
    )


def attention(now: Overview) -> list[Attention]:
    """What waits, the most urgent first."""
    found: list[Attention] = []
    for name in now.concerns:
        words = "most likely fails more than three in ten gold questions: time to talk."
        found.append(Attention(name, words, "/admin/gold", "Gold questions"))
    if now.doubtful:
        words = "failed by so many that the expected answer is more likely wrong than they are."
        found.append(Attention(_counted(now.doubtful, "gold question"), words, "/admin/gold", "Gold questions"))
    if now.undecided:
        words = "on which people agree less than 40 %, and no reviewer has decided."
        found.append(Attention(_counted(now.undecided, "task"), words, "/review", "Review"))
    if now.retired:
        words = "that nobody gets any more, because people skipped them or their key was retired."
        found.append(Attention(_counted(now.retired, "task"), words, "/review?show=skips", "Skips"))
    if now.draft:
        found.append(
            Attention("A draft", "of the next guidelines is not published.", "/admin/guidelines", "Guidelines")
        )
    if now.in_training:
        found.append(Attention(_counted(now.in_training, "member"), "still in training.", "/admin/members", "Members"))
    return found


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
