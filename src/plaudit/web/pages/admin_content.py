"""Prompts and answers with where they come from."""

import json
from typing import Any, Final, Literal
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback import audit_log
from plaudit.feedback.content import content
from plaudit.feedback.content.content_search import Search, origins, provenance, search
from plaudit.feedback.errors import FeedbackError
from plaudit.web.fields import page_number
from plaudit.web.visit import Admin, Form, text_field

router = APIRouter(prefix="/admin/content")

A_PAGE: Final = 30
STATUSES: Final[dict[str, Literal["active", "retired"]]] = {"active": "active", "retired": "retired"}


@router.get("")
def browse(member: Admin, q: str = "", origin: str = "", split: str = "", tag: str = "", page: int = 1) -> Response:
    """Search, the newest first."""
    wanted = Search(q.strip()[:200], origin, split, tag.strip())
    number = page_number(page)
    with member.read() as connection:
        found = search(connection, wanted, limit=A_PAGE + 1, offset=A_PAGE * (number - 1))
        sources = origins(connection)
    kept = urlencode({"q": wanted.text, "origin": origin, "split": split, "tag": wanted.tag})
    return member.page(
        "admin_content.html",
        found=found[:A_PAGE],
        more=len(found) > A_PAGE,
        page=number,
        wanted=wanted,
        origins=sources,
        query=kept,
    )


@router.get("/{prompt_id}")
def prompt(member: Admin, prompt_id: str) -> Response:
    """One prompt with its answers, and what is known of each."""
    with member.read() as connection:
        found = provenance(connection, prompt_id)
    return member.page("admin_prompt.html", found=found, told=told)


@router.post("/{prompt_id}/status")
def set_status(member: Admin, prompt_id: str, form: Form) -> Response:
    """Retire a prompt from new tasks, or bring it back."""
    status = STATUSES.get(text_field(form, "status"))
    if status is None:
        raise FeedbackError("bad_status", "A prompt is active or retired.", status=422)
    with member.write() as connection:
        provenance(connection, prompt_id)
        content.set_prompt_status(connection, prompt_id, status)
        audit_log.record(connection, f"prompt.{status}", "prompt", prompt_id, by=member.account.id)
    return member.redirect(f"/admin/content/{prompt_id}", note="saved")


def told(info: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and values of what an origin says, each as one text."""
    return [
        (name.replace("_", " "), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in sorted(info.items())
    ]
