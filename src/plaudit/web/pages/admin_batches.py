"""Batches: what is judged, by how many, under which rules, and what it will cost."""

from typing import Any, Final, get_args

from fastapi import APIRouter
from starlette.responses import Response

from plaudit.feedback.content.content_search import Search, origins, unasked
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.gold import gold
from plaudit.feedback.tasks import batches, costs, score_files, tasks
from plaudit.feedback.tasks.batches import BatchConfig, Kind, Purpose, Status
from plaudit.reports.markup import plain
from plaudit.web.fields import number, number_field, typed
from plaudit.web.visit import Admin, Form, Member, text_field

router = APIRouter(prefix="/admin/batches")

KINDS: Final[dict[str, Kind]] = {kind: kind for kind in get_args(Kind)}
PURPOSES: Final[dict[str, Purpose]] = {purpose: purpose for purpose in get_args(Purpose)}
STATUSES: Final[dict[str, Status]] = {status: status for status in get_args(Status)}
MOST_AT_ONCE: Final = 100_000


@router.get("")
def all_batches(member: Admin) -> Response:
    """All batches, the newest first."""
    with member.read() as connection:
        found = list(reversed(batches.list_batches(connection)))
        rows = [(one, batches.progress(connection, one.id)) for one in found]
    return member.page("admin_batches.html", rows=rows)


@router.get("/new")
def new(member: Admin) -> Response:
    """The form."""
    return _new(member)


@router.post("/new")
def create(member: Admin, form: Form) -> Response:
    """A new batch, in draft."""
    try:
        kind, purpose = KINDS.get(text_field(form, "kind")), PURPOSES.get(text_field(form, "purpose"))
        if kind is None or purpose is None:
            raise FeedbackError("invalid_batch", "Choose what labelers do, and what the batch is for.", status=422)
        config = batches.parse_config(_rules(form))
        with member.write() as connection:
            name = text_field(form, "name")
            batch_id = batches.create_batch(connection, name, kind, purpose, config, by=member.account.id)
    except FeedbackError as error:
        return _new(member, given=typed(form), problems=[str(error)], status=error.status)
    return member.redirect(f"/admin/batches/{batch_id}")


@router.get("/{batch_id}")
def batch(member: Admin, batch_id: str, rate: str = "", added: int | None = None) -> Response:
    """One batch. rate: pay an hour, for the cost."""
    return _page(member, batch_id, rate=rate, added=added)


@router.post("/{batch_id}/status")
def status(member: Admin, batch_id: str, form: Form) -> Response:
    """Run, pause or close it."""
    wanted = STATUSES.get(text_field(form, "status"))
    if wanted is None:
        raise FeedbackError("wrong_status", "A batch is run, paused or closed.", status=422)
    with member.write() as connection:
        batches.set_status(connection, batch_id, wanted, by=member.account.id)
    return member.redirect(f"/admin/batches/{batch_id}", note=f"batch_{wanted}" if wanted != "draft" else "saved")


@router.post("/{batch_id}/rules")
def rules(member: Admin, batch_id: str, form: Form) -> Response:
    """Other rules."""
    try:
        with member.write() as connection:
            kept = batches.get_batch(connection, batch_id).config.model_dump(mode="json")
            config = batches.parse_config({**kept, **_rules(form)})
            batches.set_config(connection, batch_id, config, by=member.account.id)
    except FeedbackError as error:
        return _page(member, batch_id, given=typed(form), problems=[str(error)], status=error.status)
    return member.redirect(f"/admin/batches/{batch_id}", note="saved")


@router.post("/{batch_id}/tasks")
def add(member: Admin, batch_id: str, form: Form) -> Response:
    """Tasks out of prompts and their answers."""
    limit = number_field(form, "limit")
    if not isinstance(limit, int) or not 1 <= limit <= MOST_AT_ONCE:
        return _page(member, batch_id, problems=[f"Add 1 to {MOST_AT_ONCE:,} prompts at once."], status=422)
    wanted = Search(
        origin_id=text_field(form, "origin"), split=text_field(form, "split"), tag=text_field(form, "tag").strip()
    )
    with member.write() as connection:
        found = batches.get_batch(connection, batch_id)
        needed = 2 if found.kind == "ranking" else 0
        prompts = unasked(connection, batch_id, wanted, responses=needed, limit=limit)
        items = tasks.tasks_from_prompts(connection, prompts, found.config, found.kind)
        made = tasks.add_tasks(connection, batch_id, items, by=member.account.id)
    return member.redirect(f"/admin/batches/{batch_id}", added=str(made.new))


def _page(
    member: Member,
    batch_id: str,
    *,
    rate: str = "",
    added: int | None = None,
    given: dict[str, str] | None = None,
    problems: list[str] | None = None,
    status: int = 200,
) -> Response:
    hourly = number(rate.strip().replace(",", "."))
    with member.read() as connection:
        found = batches.get_batch(connection, batch_id)
        progress = batches.progress(connection, batch_id)
        questions = gold.gold_questions(connection, batch_id=batch_id)
        cost = costs.preview_cost(
            connection, batch_id, hourly_rate=float(hourly) if isinstance(hourly, int | float) else None
        )
        counts = batches.labeler_counts(connection, batch_id)
        sources = origins(connection)
        choice = score_files.last_choice(connection, batch_id)
        parts_chosen = score_files.chosen_parts(connection, batch_id) if choice else []
    return member.page(
        "admin_batch.html",
        status=status,
        batch=found,
        config=found.config,
        progress=progress,
        gold=sum(not one.retired for one in questions),
        has_tasks=progress.tasks > 0 or bool(questions),
        cost=cost,
        rate=rate if cost.money else "",
        added=added,
        counts=counts,
        choice=choice,
        parts_chosen=parts_chosen,
        origins=[("", "everywhere"), *((one.id, plain(f"{one.kind}: {one.name}"[:80])) for one in sources)],
        given=given or {},
        problems=problems or [],
    )


def _new(
    member: Member, *, given: dict[str, str] | None = None, problems: list[str] | None = None, status: int = 200
) -> Response:
    config = BatchConfig.model_validate({"overlap": 3})
    return member.page("admin_batch_new.html", status=status, config=config, given=given or {}, problems=problems or [])


def _rules(form: Form) -> dict[str, Any]:
    """The fields of the form as the settings of a batch."""
    below = _share(form, "adaptive_below")
    adaptive = {"maximum": number_field(form, "adaptive_maximum"), "below": below} if "adaptive" in form else None
    return {
        "adaptive": adaptive,
        "gold_rate": _share(form, "gold_percent"),
        "pass_mark": _share(form, "pass_percent"),
        **{name: name in form for name in ("reason_required", "ask_confidence", "blur")},
        **{
            name: number_field(form, name)
            for name in ("overlap", "responses_per_task", "lease_minutes", "skips_to_retire")
        },
    }


def _share(form: Form, name: str) -> float | str:
    percent = number_field(form, name)
    return percent if isinstance(percent, str) else percent / 100
