"""The guidelines editor: write the next version, see what changes, publish it."""

from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.core.errors import PlauditError
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.tasks.guidelines import MAX_FLAGS, Flag
from plaudit.web.pages.guidelines import changes_of
from plaudit.web.visit import Admin, Form, Member, text_field

router = APIRouter(prefix="/admin/guidelines")

SPARE_ROWS: Final = 3


@router.get("")
def editor(member: Admin) -> Response:
    """The draft, or what is published as the beginning of one."""
    return _page(member)


@router.post("")
def save(member: Admin, form: Form) -> Response:
    """Keep the draft."""
    body, flags = text_field(form, "body"), _flags(form)
    try:
        with member.write() as connection:
            guidelines.save_draft(connection, body, flags, by=member.account.id)
    except PlauditError as error:
        return _page(member, body=body, flags=flags, problems=[str(error)], status=422)
    return member.redirect("/admin/guidelines", note="draft_saved")


@router.post("/publish")
def publish(member: Admin) -> Response:
    """Make the draft that was saved the guidelines from now on."""
    with member.write() as connection:
        guidelines.publish(connection, by=member.account.id)
    return member.redirect("/admin/guidelines", note="published")


def _page(
    member: Member,
    *,
    body: str | None = None,
    flags: list[Flag] | None = None,
    problems: list[str] | None = None,
    status: int = 200,
) -> Response:
    with member.read() as connection:
        versions = guidelines.history(connection)
        draft = guidelines.draft(connection)
    published = next((one for one in versions if one.status == "published"), None)
    start = draft or published
    shown = list(flags if flags is not None else start.flags if start else ())
    spare = [Flag("", "", "")] * min(SPARE_ROWS, MAX_FLAGS - len(shown))
    return member.page(
        "admin_guidelines.html",
        status=status,
        draft=draft,
        published=published,
        versions=[one for one in versions if one.status != "draft"],
        body=body if body is not None else start.body if start else "",
        flags=[*shown, *spare],
        changes=changes_of(guidelines.diff(published, draft)) if published and draft else [],
        problems=problems or [],
    )


def _flags(form: Form) -> list[Flag]:
    """The rows that were filled in; a row whose fields are all empty is none."""
    columns = [[str(value).strip() for value in form.getlist(name)] for name in ("key", "label", "help")]
    return [Flag(*row) for row in zip(*columns, strict=False) if any(row)]
