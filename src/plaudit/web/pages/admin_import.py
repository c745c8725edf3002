"""The import wizard: send a file, see what it would bring and what is wrong line by line, then import it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from fastapi import APIRouter
from sqlalchemy import Connection
from starlette.responses import Response

from plaudit.core.errors import PlauditError
from plaudit.feedback.content.import_files import Checked, ImportKind, check_file
from plaudit.feedback.content.importing import ImportedTexts, import_prompts, import_responses, rehearse
from plaudit.feedback.data.recorded import ImportedJudgments, LabelerKind, import_judgments
from plaudit.feedback.errors import FeedbackError
from plaudit.web import waiting_files
from plaudit.web.uploads import uploaded
from plaudit.web.visit import Admin, Form, Member, text_field

router = APIRouter(prefix="/admin/import")

KINDS: Final[dict[str, ImportKind]] = {kind: kind for kind in get_args(ImportKind)}
LABELERS: Final[dict[str, LabelerKind]] = {kind: kind for kind in get_args(LabelerKind)}


@dataclass(frozen=True)
class Options:
    """What the form says about a file."""

    kind: ImportKind
    name: str
    licence: str | None
    model: str | None
    tags: tuple[str, ...]
    labelers: LabelerKind
    labeler: str | None


@router.get("")
def begin(member: Admin) -> Response:
    """The form."""
    return _page(member)


@router.post("")
def check(member: Admin, form: Form) -> Response:
    """Read the file and do everything, then take it back: the result is what an import would bring."""
    given = _typed(form)
    try:
        with uploaded(form, "file") as file:
            options = _options(form, file.name)
            checked = check_file(file.path, options.kind, name=file.name)
            if checked.faulty:
                return _page(member, given=given, checked=checked, status=422)
            by = member.account.id
            result = rehearse(member.database, lambda connection: _bring(connection, checked, options, by))
            token = waiting_files.keep(member.site.project.folder, file.path, "".join(file.path.suffixes))
    except PlauditError as error:
        return _page(member, given=given, problems=[str(error)], status=422)
    return _page(member, given={**given, "name": options.name}, checked=checked, result=result, token=token)


@router.post("/{token}")
def bring(member: Admin, token: str, form: Form) -> Response:
    """Import the file that was checked, whole or not at all."""
    path = waiting_files.find(member.site.project.folder, token)
    if text_field(form, "action") == "discard":
        path.unlink(missing_ok=True)
        return member.redirect("/admin/import")
    given = _typed(form)
    try:
        options = _options(form, text_field(form, "name"))
        checked = check_file(path, options.kind, name=options.name)
        with member.write() as connection:
            result = _bring(connection, checked, options, member.account.id)
    except PlauditError as error:
        return _page(member, given=given, problems=[str(error)], status=422)
    path.unlink(missing_ok=True)
    return _page(member, checked=checked, result=result)


def _bring(c: Connection, checked: Checked, options: Options, by: str) -> ImportedTexts | ImportedJudgments:
    if options.kind == "prompts":
        return import_prompts(c, checked, by=by, licence=options.licence, tags=options.tags)
    if options.kind == "responses":
        return import_responses(c, checked, by=by, licence=options.licence, model=options.model)
    return import_judgments(c, checked, by=by, kind=options.labelers, labeler=options.labeler, licence=options.licence)


def _options(form: Form, name: str) -> Options:
    kind, labelers = KINDS.get(text_field(form, "kind")), LABELERS.get(text_field(form, "labelers"), "person")
    if kind is None:
        raise FeedbackError("bad_kind", f"Say what the file holds: one of {', '.join(KINDS)}.", status=422)
    return Options(
        kind,
        Path(name).name[:150] or "upload",
        text_field(form, "licence").strip()[:200] or None,
        text_field(form, "model").strip()[:200] or None,
        tuple(tag[:60] for part in text_field(form, "tags").split(",") if (tag := part.strip())),
        labelers,
        text_field(form, "labeler").strip()[:40] or None,
    )


def _typed(form: Form) -> dict[str, str]:
    return {name: value for name, value in form.items() if isinstance(value, str)}


def _page(
    member: Member,
    *,
    given: dict[str, str] | None = None,
    problems: list[str] | None = None,
    checked: Checked | None = None,
    result: ImportedTexts | ImportedJudgments | None = None,
    token: str = "",
    status: int = 200,
) -> Response:
    context: dict[str, Any] = {
        "given": given or {},
        "problems": problems or [],
        "checked": checked,
        "counts": _counts(result),
        "batches": result.batches if isinstance(result, ImportedJudgments) else (),
        "left_out": dict(checked.left_out) if checked else {},
        "token": token,
    }
    return member.page("admin_import.html", status=status, **context)


def _counts(result: ImportedTexts | ImportedJudgments | None) -> list[tuple[str, int]]:
    """What an import brings, in words."""
    if result is None:
        return []
    if isinstance(result, ImportedTexts):
        counts = {
            "rows": result.rows,
            "new prompts": result.new_prompts,
            "prompts known already": result.known_prompts,
            "new answers": result.new_responses,
            "answers known already": result.known_responses,
        }
        return [(name, number) for name, number in counts.items() if number or name in ("rows", "new prompts")]
    return [
        ("judgments", result.judgments),
        ("labelers", result.labelers),
        ("new labelers", result.new_labelers),
        ("tasks", result.tasks),
        ("new prompts", result.new_prompts),
        ("new answers", result.new_responses),
    ]
