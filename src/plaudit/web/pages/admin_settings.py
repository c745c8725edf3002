"""What can be changed about the whole project."""

from typing import Any, Final

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from plaudit.feedback.settings import ProjectSettings
from plaudit.web.fields import number_field
from plaudit.web.visit import Admin, Form, Member, text_field

router = APIRouter(prefix="/admin/settings")

MOST_QUESTIONS: Final = 10
SPARE_ROWS: Final = 2


@router.get("")
def settings(member: Admin) -> Response:
    """The form."""
    return _page(member, member.site.project.settings().model_dump(mode="json"))


@router.post("")
def save(member: Admin, form: Form) -> Response:
    """Replace the settings."""
    tree = _tree(form)
    try:
        found = ProjectSettings.model_validate(tree)
    except ValidationError as error:
        return _page(member, tree, problems=[_sentence(dict(one)) for one in error.errors()], status=422)
    member.site.project.save_settings(found, by=member.account.id)
    return member.redirect("/admin/settings", note="saved")


def _page(member: Member, tree: dict[str, Any], *, problems: list[str] | None = None, status: int = 200) -> Response:
    asked = list(tree["group_questions"])
    spare = [{"key": "", "text": "", "options": []}] * min(SPARE_ROWS, MOST_QUESTIONS - len(asked))
    return member.page(
        "admin_settings.html", status=status, tree=tree, questions=[*asked, *spare], problems=problems or []
    )


def _tree(form: Form) -> dict[str, Any]:
    columns = [
        [str(value).replace("\r\n", "\n") for value in form.getlist(name)] for name in ("key", "text", "options")
    ]
    questions = [
        {
            "key": key.strip(),
            "text": text.strip(),
            "options": [option for line in options.split("\n") if (option := line.strip())],
        }
        for key, text, options in zip(*columns, strict=False)
        if key.strip() or text.strip() or options.strip()
    ]
    return {
        "contact": text_field(form, "contact").strip(),
        "open_leases": number_field(form, "open_leases"),
        "smallest_group": number_field(form, "smallest_group"),
        "group_questions": questions,
    }


def _sentence(error: dict[str, Any]) -> str:
    where = " ".join(str(part + 1) if isinstance(part, int) else part.replace("_", " ") for part in error["loc"])
    return f"{where or 'settings'}: {error['msg'].removeprefix('Value error, ')}"
