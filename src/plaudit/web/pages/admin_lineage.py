"""Lineage: from a model to the judgments behind it, and from a person to the models that used their words."""

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback.data import lineage
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.people import members
from plaudit.web.visit import Admin

router = APIRouter(prefix="/admin/lineage")


@router.get("")
def page(member: Admin, run: str = "", labeler: str = "") -> Response:
    """Both questions on one page: `run` asks what made it, `labeler` where their judgments went."""
    with member.read() as connection:
        uses = lineage.all_uses(connection)
        people = {one.pseudonym: one.id for one in members.members(connection)}
        if run and run not in {use.run for use in uses}:
            raise FeedbackError("not_found", "No such run is recorded here.", status=404)
        if labeler and labeler not in people:
            raise FeedbackError("not_found", "There is no such labeler.", status=404)
        made = lineage.made_of(connection, run) if run else None
        member_uses = lineage.uses_of_member(connection, people[labeler]) if labeler else []
    return member.page(
        "admin_lineage.html",
        run=run,
        runs=sorted({use.run for use in uses}),
        labeler=labeler,
        labelers=sorted(people),
        made=made,
        people=len({share.labeler for share in made.shares}) if made else 0,
        member_uses=member_uses,
        uses=uses,
        folder=str(member.site.project.folder),
    )
