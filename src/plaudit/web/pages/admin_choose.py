"""Active selection: which prompts a batch asks about, by an uploaded file of scores and a share at random."""

from typing import Final

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from plaudit.core.errors import PlauditError
from plaudit.feedback.content.import_files import Checked
from plaudit.feedback.tasks import batches, score_files
from plaudit.feedback.tasks.selection import SelectionConfig
from plaudit.web.fields import number_field
from plaudit.web.uploads import uploaded
from plaudit.web.visit import Admin, Form, Member, text_field

LABELS: Final = {
    "count": "Prompts to choose",
    "policy": "A high score means",
    "random_share": "Of them at random",
    "seed": "Seed of the draw",
}

router = APIRouter(prefix="/admin/batches/choose")


@router.get("/{batch_id}")
def form(member: Admin, batch_id: str) -> Response:
    """The form."""
    return _page(member, batch_id)


@router.post("/{batch_id}")
def choose(member: Admin, batch_id: str, form: Form) -> Response:
    """Choose and add, or tell what is wrong with which line."""
    given = {name: value for name, value in form.items() if isinstance(value, str)}
    try:
        config = _config(form)
        with uploaded(form, "scores") as file:
            checked = score_files.check_scores(file.path, name=file.name)
        if checked.faulty:
            return _page(member, batch_id, given=given, checked=checked, status=422)
        with member.write() as connection:
            choice = score_files.add_chosen(connection, batch_id, checked, config, by=member.account.id)
    except ValidationError as error:
        problems = [f"{LABELS[str(one['loc'][0])]}: {one['msg']}." for one in error.errors()]
        return _page(member, batch_id, given=given, problems=problems, status=422)
    except PlauditError as error:
        return _page(member, batch_id, given=given, problems=[str(error)], status=422)
    return member.redirect(f"/admin/batches/{batch_id}", added=str(choice.tasks))


def _config(form: Form) -> SelectionConfig:
    percent = number_field(form, "random_percent")
    return SelectionConfig.model_validate(
        {
            "count": number_field(form, "count"),
            "policy": text_field(form, "policy"),
            "random_share": percent if isinstance(percent, str) else percent / 100,
            "seed": number_field(form, "seed"),
        },
    )


def _page(
    member: Member,
    batch_id: str,
    *,
    given: dict[str, str] | None = None,
    problems: list[str] | None = None,
    checked: Checked | None = None,
    status: int = 200,
) -> Response:
    with member.read() as connection:
        found = batches.get_batch(connection, batch_id)
    return member.page(
        "admin_choose.html", status=status, batch=found, given=given or {}, problems=problems or [], checked=checked
    )
