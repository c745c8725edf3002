"""Prompts and responses from files into the project; what people judged elsewhere goes through `recorded`.

A file is imported whole or not at all: the caller's transaction is the file's. Look first with `rehearse`, which does
everything and takes it back.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar, cast

from sqlalchemy import Connection, select

from plaudit.feedback import audit_log
from plaudit.feedback.content.content import NewPrompt, NewResponse, add_many_responses, add_origin, add_prompts
from plaudit.feedback.content.import_files import Answered, Checked
from plaudit.feedback.content.import_files import Row as FileRow
from plaudit.feedback.store.database import Database
from plaudit.feedback.store.tables import origin

T = TypeVar("T")
SPLITS = ("train", "validation", "test")


class ImportedTexts(NamedTuple):
    """What an import of texts brought. `known` were in the project already, word for word."""

    origin_id: str
    rows: int
    new_prompts: int
    known_prompts: int
    new_responses: int = 0
    known_responses: int = 0
    prompt_ids: tuple[str, ...] = ()


class _TakenBack(Exception):  # noqa: N818 (no error: it ends a rehearsal)
    def __init__(self, result: Any) -> None:
        self.result = result


def rehearse(database: Database, work: Callable[[Connection], T]) -> T:
    """Do `work` in a transaction, keep its result and take back what it did."""
    try:
        with database.write() as connection:
            raise _TakenBack(work(connection))
    except _TakenBack as end:
        return cast(T, end.result)


def import_prompts(
    c: Connection, checked: Checked, *, by: str | None, licence: str | None = None, tags: tuple[str, ...] = ()
) -> ImportedTexts:
    """Store the prompts of a checked file. A row may have `split` and `tags` of its own.

    Raises:
        DataError: some rows cannot be imported.
    """
    prompts = [_new_prompt(row, tags) for row in checked.rows]
    for row, (split, _) in zip(checked.rows, prompts, strict=True):
        if split not in (None, *SPLITS):
            checked.add_problem(row.line, f"`split` is {split!r}; write one of {', '.join(SPLITS)}")
    checked.raise_if_faulty()
    origin_id = file_origin(c, checked, licence)
    added = add_prompts(
        c,
        (
            NewPrompt(row.record.prompt, origin_id, split, labels)
            for row, (split, labels) in zip(checked.rows, prompts, strict=True)
        ),
    )
    ids = tuple(dict.fromkeys(added.ids))
    audit_log.record(c, "import.prompts", "origin", origin_id, {"rows": len(checked.rows), "new": added.new}, by=by)
    return ImportedTexts(origin_id, len(checked.rows), added.new, len(ids) - added.new, prompt_ids=ids)


def import_responses(
    c: Connection, checked: Checked, *, by: str | None, licence: str | None = None, model: str | None = None
) -> ImportedTexts:
    """Store prompts with answers that nobody has judged yet, to be ranked in a batch.

    model: whose answers these are, where the rows do not say it themselves (`model` or `system` of a response).

    Raises:
        DataError: some rows cannot be imported.
    """
    checked.raise_if_faulty()
    origin_id = file_origin(c, checked, licence)
    prompts = add_prompts(c, (NewPrompt(row.record.prompt, origin_id) for row in checked.rows))
    origins = ModelOrigins(c, checked, origin_id, model)
    responses = add_many_responses(
        c,
        (
            NewResponse(prompt_id, body, origins.of(row, place))
            for row, prompt_id in zip(checked.rows, prompts.ids, strict=True)
            for place, body in enumerate(cast(Answered, row.record).responses)
        ),
    )
    ids = tuple(dict.fromkeys(prompts.ids))
    texts = len(set(responses.ids))
    detail = {"rows": len(checked.rows), "new_prompts": prompts.new, "new_responses": responses.new}
    audit_log.record(c, "import.responses", "origin", origin_id, detail, by=by)
    return ImportedTexts(
        origin_id,
        len(checked.rows),
        prompts.new,
        len(ids) - prompts.new,
        responses.new,
        texts - responses.new,
        ids,
    )


def file_origin(c: Connection, checked: Checked, licence: str | None, **more: Any) -> str:
    """The origin of everything that a file brings."""
    info: dict[str, Any] = {"file": checked.name, "sha256": checked.sha256, "rows": len(checked.rows)}
    return add_origin(c, "import", checked.name, info | ({"licence": licence} if licence else {}) | more)


class ModelOrigins:
    """The origins of the models that a file names, made when they are first met."""

    def __init__(self, c: Connection, checked: Checked, default: str, model: str | None = None) -> None:
        self._c = c
        self._info = {"file": checked.name, "sha256": checked.sha256}
        self._default = self._find(model) if model else default
        self._found: dict[str, str] = {}

    def of(self, row: FileRow, place: int) -> str:
        """The origin of response `place` of a row: the model that it names, or the file."""
        items = row.raw.get("responses")
        listed = cast(list[Any], items) if isinstance(items, list) else []
        item = cast(dict[str, Any], listed[place]) if place < len(listed) and isinstance(listed[place], dict) else {}
        name = item.get("model", item.get("system"))
        if not isinstance(name, str) or not name.strip():
            return self._default
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def _find(self, name: str) -> str:
        return add_origin(self._c, "model", name.strip()[:200], self._info)


def imported_before(c: Connection, sha256: str) -> str | None:
    """The name under which a file of the same content was imported, if one was."""
    query = select(origin.c.name).where(origin.c.kind == "import", origin.c.info["sha256"].as_string() == sha256)
    return c.scalar(query.order_by(origin.c.created_at).limit(1))


def _new_prompt(row: FileRow, tags: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    own = row.raw.get("tags")
    labels: Iterable[Any] = cast(list[Any], own) if isinstance(own, list) else ()
    return row.raw.get("split"), (*tags, *(str(label)[:60] for label in labels))
