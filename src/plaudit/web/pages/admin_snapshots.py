"""Snapshots: data sets that never change, from a recipe in a form."""

import json
import shlex
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import FileResponse, Response

from plaudit.core.errors import PlauditError
from plaudit.feedback.data import lineage, snapshots
from plaudit.feedback.data.recipe import Recipe
from plaudit.feedback.data.snapshots import Preview, Snapshot
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.privacy.erasure import destroyed_snapshots
from plaudit.feedback.statistics import judgments_by_kind
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.tasks.batches import list_batches
from plaudit.web.fields import number, ticked
from plaudit.web.visit import Admin, Form, Member, text_field

router = APIRouter(prefix="/admin/snapshots")

STAGES: Final = {"demonstrations": "sft", "rankings": "reward", "comparisons": "reward"}
SPLITS: Final = {"train": ("train", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class Given:
    """The form as it was filled in."""

    name: str = "people"
    kind: str = "rankings"
    aggregate: str = "each"
    ties: str = "keep"
    split: str = "train"
    labelers: tuple[str, ...] = ("person",)
    batches: tuple[str, ...] = ()
    guidelines: tuple[str, ...] = ()
    min_gold: str = ""
    min_judgments: str = "1"
    without: str = ""
    criterion: str = ""
    acceptable_only: bool = False

    @property
    def filtered(self) -> bool:
        """Whether a filter of the folded part is used."""
        return bool(
            self.min_gold or self.min_judgments != "1" or self.without or self.criterion or self.acceptable_only
        )

    def recipe(self) -> Recipe:
        """Raises pydantic's ValidationError."""
        tree: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "aggregate": self.aggregate,
            "ties": self.ties,
            "splits": SPLITS.get(self.split, (self.split,)),
            "labelers": self.labelers,
            "batches": self.batches or None,
            "guidelines": [number(one) for one in self.guidelines] or None,
            "min_gold": number(self.min_gold) if self.min_gold else None,
            "min_judgments": number(self.min_judgments),
            "without": tuple(name for part in self.without.split(",") if (name := part.strip())),
            "criterion": self.criterion.strip() or None,
            "acceptable_only": self.acceptable_only,
        }
        return Recipe.model_validate(tree)


@router.get("")
def all_snapshots(member: Admin) -> Response:
    """All of them, the newest first."""
    with member.read() as connection:
        found = snapshots.list_snapshots(connection)
        uses: dict[str, int] = {}
        for use in lineage.all_uses(connection):
            uses[use.snapshot_id] = uses.get(use.snapshot_id, 0) + 1
    return member.page("admin_snapshots.html", snapshots=found, uses=uses)


@router.get("/new")
def recipe_form(member: Admin) -> Response:
    """The recipe as a form. Labelers: people, or whoever there is in a project where no person has judged."""
    with member.read() as connection:
        kinds = judgments_by_kind(connection)
    only_others = bool(kinds) and "person" not in kinds
    return _form(member, Given(labelers=tuple(kinds) if only_others else ("person",)))


@router.post("/new")
def make(member: Admin, form: Form) -> Response:
    """Count what the recipe takes, or make the snapshot."""
    given = _given(form)
    try:
        recipe = given.recipe()
        if text_field(form, "action") != "create":
            with member.read() as connection:
                return _form(member, given, preview=snapshots.preview(connection, recipe))
        project = member.site.project
        made = snapshots.create_snapshot(project.database, project.folder, recipe, by=member.account.id)
    except ValidationError as error:
        return _form(member, given, problems=[_sentence(dict(one)) for one in error.errors()], status=422)
    except PlauditError as error:
        return _form(member, given, problems=[str(error)], status=422)
    return member.redirect(f"/admin/snapshots/{made.id}")


@router.get("/{snapshot_id}")
def snapshot(member: Admin, snapshot_id: str) -> Response:
    """One snapshot: its manifest, whether its file is whole, and who used it."""
    found, destroyed = _find(member, snapshot_id)
    with member.read() as connection:
        uses = lineage.uses_of(connection, found.id)
    folder = member.site.project.folder
    stage, run = STAGES[found.kind], f"runs/{found.name}-{STAGES[found.kind]}"
    return member.page(
        "admin_snapshot.html",
        snapshot=found,
        manifest=found.manifest,
        recipe=json.dumps(found.recipe.model_dump(mode="json"), indent=2, ensure_ascii=True),
        destroyed=destroyed,
        fault=None if destroyed else snapshots.find_fault(found, folder),
        uses=uses,
        command=shlex.join(["plaudit", stage, "model=smollm2", f"data={found.path(folder)}", f"run={run}"]),
        record=shlex.join(["plaudit", "lineage", f"run={run}", f"project={folder}"]),
    )


@router.get("/{snapshot_id}/file")
def download(member: Admin, snapshot_id: str) -> Response:
    """The file, if it is what it was."""
    found, destroyed = _find(member, snapshot_id)
    path = found.path(member.site.project.folder)
    fault = (
        "Its file was destroyed with the words of a person."
        if destroyed
        else snapshots.find_fault(found, path.parents[1])
    )
    if fault is not None:
        raise FeedbackError("damaged", f"The file of {found.label} cannot be downloaded: {fault}.", status=410)
    return FileResponse(path, media_type="application/jsonl", filename=path.name)


def _find(member: Member, snapshot_id: str) -> tuple[Snapshot, bool]:
    """The snapshot, and whether its file was destroyed by an erasure."""
    with member.read() as connection:
        found = snapshots.snapshot_of(connection, snapshot_id)
        return found, found.id in destroyed_snapshots(connection)


def _given(form: Form) -> Given:
    return Given(
        **{
            name: text_field(form, name).strip()
            for name in ("name", "kind", "aggregate", "ties", "split", "min_gold", "without", "criterion")
        },
        min_judgments=text_field(form, "min_judgments").strip() or "1",
        labelers=ticked(form, "labelers"),
        batches=ticked(form, "batches"),
        guidelines=ticked(form, "guidelines"),
        acceptable_only="acceptable_only" in form,
    )


def _form(
    member: Member,
    given: Given,
    *,
    problems: list[str] | None = None,
    preview: Preview | None = None,
    status: int = 200,
) -> Response:
    with member.read() as connection:
        batches = [one for one in list_batches(connection) if one.purpose == "work"]
        versions = [one.version for one in guidelines.history(connection) if one.status != "draft"]
    return member.page(
        "admin_snapshot_new.html",
        status=status,
        given=given,
        batches=batches,
        versions=versions,
        problems=problems or [],
        preview=preview,
    )


def _sentence(error: dict[str, Any]) -> str:
    """A fault of the recipe in words. Never what was sent: the page shows it in its field already."""
    return f"{'.'.join(str(part) for part in error['loc']) or 'recipe'}: {error['msg'].removeprefix('Value error, ')}"
