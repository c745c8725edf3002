"""The guidelines: the current version, older ones, and what changed."""

from typing import NamedTuple

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.tasks.guidelines import Line
from plaudit.web.visit import Labeler

router = APIRouter()

CONTEXT_LINES = 1


class Change(NamedTuple):
    """A run of lines around a change, for the page."""

    lines: list[Line]


@router.get("/guidelines")
def guideline(member: Labeler, version: int | None = None) -> Response:
    """One version, the current one if none is named. Drafts are for admins."""
    with member.read() as connection:
        published = [one for one in guidelines.history(connection) if one.status != "draft"]
    if not published and version is None:
        return member.page("guidelines.html", shown=None, versions=[], changes=[], former=None)
    shown = next((one for one in published if version in (None, one.version)), None)
    if shown is None:
        raise FeedbackError("not_found", f"There is no version {version} of the guidelines.", status=404)
    former = next((one for one in published if one.version < shown.version), None)
    changes = changes_of(guidelines.diff(former, shown)) if former else []
    return member.page("guidelines.html", shown=shown, versions=published, changes=changes, former=former)


def changes_of(lines: list[Line]) -> list[Change]:
    """The changed lines with a little of what stands around them."""
    near = {
        i + step
        for i, line in enumerate(lines)
        if line.kind != "same"
        for step in range(-CONTEXT_LINES, CONTEXT_LINES + 1)
    }
    changes: list[Change] = []
    for i, line in enumerate(lines):
        if i not in near:
            continue
        if i == 0 or i - 1 not in near:
            changes.append(Change([]))
        changes[-1].lines.append(line)
    return changes
