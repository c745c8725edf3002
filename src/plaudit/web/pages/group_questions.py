"""Voluntary questions about one's group, which help to find bias. Nothing depends on answering."""

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback.privacy import groups
from plaudit.web.visit import Form, Labeler, text_field

router = APIRouter(prefix="/profile/groups")


@router.get("")
def questions(member: Labeler) -> Response:
    """The questions with one's own answers."""
    project = member.site.project
    with member.read() as connection:
        given = groups.own_answers(connection, project.secrets, member.account.id)
    settings = project.settings()
    return member.page(
        "group_questions.html", questions=settings.group_questions, given=given, smallest=settings.smallest_group
    )


@router.post("")
def answer(member: Labeler, form: Form) -> Response:
    """Keep the answers that were given, forget those that were not."""
    project = member.site.project
    settings = project.settings()
    with member.write() as connection:
        for question in settings.group_questions:
            option = text_field(form, question.key) or None
            groups.answer(connection, project.secrets, settings, member.account.id, question.key, option)
    return member.redirect("/profile", note="saved")
