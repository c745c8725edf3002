"""The bias audit: what sways judgments besides quality, and what a reward model inherited of it."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from fastapi import APIRouter
from markupsafe import Markup
from starlette.responses import Response

from plaudit.core.errors import PlauditError
from plaudit.feedback.bias.effects import EVERYBODY, Effect
from plaudit.feedback.bias.scores import read_scores
from plaudit.feedback.content.import_files import check_size
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.statistics import chosen_judgments, reward_audit, suggestion_audit
from plaudit.web.figures import bar_chart
from plaudit.web.pages.statistics_filter import chosen_criterion, read_filter, statistics
from plaudit.web.quality_plots import bias_effects
from plaudit.web.uploads import uploaded
from plaudit.web.visit import Admin, Form, Member, text_field

router = APIRouter(prefix="/admin/bias")

SCALE: Final = "effect; 0 is none"
PROBES: Final = ("position", "length", "speed", "suggestion")


AUDITS: Final = {"reward": reward_audit, "suggestion": suggestion_audit}


class ScoreAudit(NamedTuple):
    """The result for an uploaded file of scores. of: a key of AUDITS."""

    of: str
    name: str
    scored: int
    effects: list[Effect]


@router.get("")
def bias(member: Admin, batch: str = "", kind: str = "", criterion: str = "") -> Response:
    """The audit of one kind of labelers."""
    return _page(member, batch, kind, criterion)


@router.post("/scores")
def scores(member: Admin, form: Form) -> Response:
    """The same probes on a reward model's scores, or who follows a machine's suggestions. Nothing is kept."""
    batch, kind, criterion = (text_field(form, name) for name in ("batch", "kind", "criterion"))
    try:
        audit = _audit(member, batch, kind, criterion, form)
    except PlauditError as error:
        status = error.status if isinstance(error, FeedbackError) else 422
        return _page(member, batch, kind, criterion, problems=[str(error)], status=status)
    return _page(member, batch, kind, criterion, audit=audit)


def _audit(member: Member, batch: str, kind: str, criterion: str, form: Form) -> ScoreAudit:
    asked = read_filter(member, batch, kind).asked
    of = text_field(form, "of")
    if of not in AUDITS:
        raise FeedbackError("bad_kind", f"Say whose scores these are: one of {', '.join(AUDITS)}.", status=422)
    with uploaded(form, "scores") as file:
        check_size(file.path, file.name)
        given = read_scores(file.path)
    with member.read() as connection:
        judgments = [one for one in chosen_judgments(connection, asked) if (one.criterion or "") == criterion]
    return ScoreAudit(of, file.name, len(given), AUDITS[of](judgments, given))


def _page(
    member: Member,
    batch: str,
    kind: str,
    criterion: str,
    *,
    problems: list[str] | None = None,
    audit: ScoreAudit | None = None,
    status: int = 200,
) -> Response:
    asked = read_filter(member, batch, kind)
    found = statistics(member, asked.asked)
    quality, criteria = chosen_criterion(found, criterion)
    effects = [] if quality is None else quality.bias.effects
    everybody = [one for one in effects if one.labeler == EVERYBODY]
    # What was found first, then what was tested, then what could not be: a page of hundreds is read from its top.
    single = sorted(
        (one for one in effects if one.labeler != EVERYBODY),
        key=lambda one: (not one.found, one.p is None, one.probe, one.labeler),
    )
    settings = member.site.project.settings()
    context: dict[str, Any] = {
        "asked": asked.asked,
        "batches": asked.batches,
        "kinds": asked.kinds,
        "criteria": criteria,
        "quality": quality,
        "found": found,
        "problems": problems or [],
        "group_texts": {one.key: one.text for one in settings.group_questions},
        "smallest_group": settings.smallest_group,
        "everybody": everybody,
        "everybody_chart": _chart("All labelers together", ((one.probe, one) for one in everybody)),
        "single": single,
        "found_single": [one for one in single if one.found],
        "tested": sum(one.p is not None for one in single),
        "charts": [] if quality is None else [Markup(bias_effects(quality, probe)) for probe in PROBES],
        "audit": audit,
        "audit_chart": ""
        if audit is None
        else _chart("The scores and people", ((f"{one.probe}, {one.labeler}", one) for one in audit.effects)),
    }
    return member.page("admin_bias.html", status=status, **context)


def _chart(title: str, effects: Iterable[tuple[str, Effect]]) -> Markup:
    return bar_chart(title, SCALE, [(name, one.effect) for name, one in effects])
