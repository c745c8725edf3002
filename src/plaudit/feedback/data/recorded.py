"""Judgments that named people made elsewhere, brought into the project as theirs.

Every name becomes a member who cannot sign in; their judgments lie in a closed batch of their own (one for each
criterion of the file), under a version of the guidelines which says that it is not known what they were told. From
there on they are judgments like all others: every figure, data set and lineage sees them.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Table, func, insert, select

from plaudit.core.errors import DataError
from plaudit.feedback import audit_log
from plaudit.feedback.content.content import NewPrompt, NewResponse, add_many_responses, add_prompts
from plaudit.feedback.content.import_files import Checked
from plaudit.feedback.content.importing import ModelOrigins, file_origin, imported_before
from plaudit.feedback.data.recorded_rows import Extras, judged_of
from plaudit.feedback.people import members
from plaudit.feedback.store import clock, tables
from plaudit.feedback.store.tables import new_id
from plaudit.feedback.tasks.batches import BatchConfig
from plaudit.feedback.tasks.overlap import agreement

LabelerKind = Literal["person", "ai", "simulated"]

UNKNOWN_GUIDELINES = (
    "# Recorded elsewhere\n\n"
    "Judgments under this version were imported. What their labelers were told is not known here."
)
_LEASE = 30 * clock.MINUTE
_NAME = re.compile(r"[\w .+-]{1,40}")


class ImportedJudgments(NamedTuple):
    """What an import of judgments brought."""

    origin_id: str
    batches: tuple[str, ...]  # names
    judgments: int
    labelers: int
    new_labelers: int
    tasks: int
    new_prompts: int
    new_responses: int
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Ranked:
    """One judgment with everything resolved to ids."""

    member_id: str
    criterion: str | None
    prompt_id: str
    tiers: dict[str, int]
    flags: dict[str, tuple[str, ...]]
    shown: tuple[str, ...]
    extras: Extras
    text: str | None = None  # of a demonstration


def import_judgments(
    c: Connection,
    checked: Checked,
    *,
    by: str | None,
    name: str | None = None,
    kind: LabelerKind = "person",
    labeler: str | None = None,
    licence: str | None = None,
) -> ImportedJudgments:
    """Store the rankings (comparisons are rankings of two) or demonstrations of a checked file.

    name:    of the batch; the file's name if not given.
    kind:    what the labelers are.
    labeler: who judged the rows that name nobody.

    Raises:
        DataError: rows that cannot be imported; rows without a labeler; the file was imported before; a labeler's name
            belongs to a member who has an account here, or is of another kind.
    """
    if before := imported_before(c, checked.sha256):
        raise DataError(f"{checked.name} was imported before, as {before}; its judgments would count twice.")
    judged = [(row, found) for row in checked.rows if (found := judged_of(row, checked)) is not None]
    if labeler is None and (unnamed := sum(found.labeler is None for _, found in judged)):
        raise DataError(f"{unnamed} rows of {checked.name} do not say who judged. Give labeler= a name for them.")
    checked.raise_if_faulty()

    names = [found.labeler or labeler or "" for _, found in judged]
    people = _labelers(c, list(dict.fromkeys(names)), kind, checked)
    trust = _trust(names, [found.extras for _, found in judged])
    origin_id = file_origin(c, checked, licence, **({"trust": trust} if trust else {}))
    prompts = add_prompts(c, (NewPrompt(found.prompt, origin_id) for _, found in judged))
    origins = ModelOrigins(c, checked, origin_id)
    responses = add_many_responses(
        c,
        (
            NewResponse(prompt_id, body, origins.of(row, found.places[place]))
            for (row, found), prompt_id in zip(judged, prompts.ids, strict=True)
            for place, body in enumerate(found.responses)
        ),
    )
    ids = iter(responses.ids)
    ranked: list[_Ranked] = []
    for (_, found), who, prompt_id in zip(judged, names, prompts.ids, strict=True):
        own = [next(ids) for _ in found.responses]
        tiers = _tiers(own, found.ranks)
        if tiers is None or (found.text is None and len(tiers) < 2):
            cause = "one text ranked twice" if tiers is None else "fewer than two different responses"
            checked.left_out[cause] += 1
            continue
        flags = {response: raised for response, raised in zip(own, found.flags, strict=True) if raised}
        shown = tuple(dict.fromkeys(own[place] for place in found.shown))
        ranked.append(
            _Ranked(people.ids[who], found.criterion, prompt_id, tiers, flags, shown, found.extras, found.text)
        )
    guideline_id = _guideline(c, sorted({flag for one in ranked for raised in one.flags.values() for flag in raised}))
    batches, tasks = _store(c, name or checked.name, ranked, guideline_id)
    audit_log.record(
        c, f"import.{checked.kind}", "origin", origin_id, {"judgments": len(ranked), "labelers": len(people.ids)}, by=by
    )
    return ImportedJudgments(
        origin_id,
        batches,
        len(ranked),
        len(people.ids),
        people.new,
        tasks,
        prompts.new,
        responses.new,
        dict(checked.left_out),
    )


class _People(NamedTuple):
    ids: dict[str, str]
    new: int


def _labelers(c: Connection, names: Sequence[str], kind: LabelerKind, checked: Checked) -> _People:
    """A member for each name. Who has an account here judges here: nothing from outside is put down to them."""
    ids: dict[str, str] = {}
    new = 0
    for name in names:
        pseudonym = _pseudonym(name)
        found = c.execute(select(tables.member).where(tables.member.c.pseudonym == pseudonym)).first()
        if found is None:
            ids[name] = members.add_member(c, kind=kind, state="paused", pseudonym=pseudonym).id
            new += 1
        elif found.email is not None or found.password_hash is not None or found.state == "erased":
            raise DataError(
                f"{checked.name} names the labeler {pseudonym}, who is a member of this project. Rename the labeler in "
                "the file: judgments from elsewhere cannot be put down to a member."
            )
        elif found.kind != kind:
            raise DataError(
                f"{checked.name} names the labeler {pseudonym}, who was imported as {found.kind}, not {kind}. Rename "
                "the labeler in the file, or import it as what it is."
            )
        else:
            ids[name] = found.id
    return _People(ids, new)


def _pseudonym(name: str) -> str:
    """The name where it can stand in pages and data sets; else a hash: an address must not get there."""
    plain = name.strip()
    if _NAME.fullmatch(plain):
        return plain
    return f"imported-{hashlib.sha256(name.encode('utf-8')).hexdigest()[:10]}"


def _trust(names: Sequence[str], extras: Sequence[Extras]) -> dict[str, float]:
    """What the platform that collected the judgments thought of each labeler, on average; only where it says so."""
    told: defaultdict[str, list[float]] = defaultdict(list)
    for name, extra in zip(names, extras, strict=True):
        if extra.trust is not None:
            told[_pseudonym(name)].append(extra.trust)
    return {name: round(sum(values) / len(values), 4) for name, values in sorted(told.items())}


def _tiers(ids: Sequence[str], ranks: Sequence[int]) -> dict[str, int] | None:
    """Dense tiers by response; None where the same text of the same model got two ranks."""
    order = sorted(set(ranks))
    tiers: dict[str, int] = {}
    for response_id, rank in zip(ids, ranks, strict=True):
        tier = order.index(rank) + 1
        if tiers.setdefault(response_id, tier) != tier:
            return None
    return tiers


def _guideline(c: Connection, flags: Sequence[str]) -> str:
    """The version that stands for guidelines nobody here knows: one for each set of flags."""
    known = [{"key": flag, "label": flag.replace("_", " "), "help": ""} for flag in flags]
    sha256 = hashlib.sha256(json.dumps([UNKNOWN_GUIDELINES, known], sort_keys=True).encode("ascii")).hexdigest()
    table = tables.guideline
    found = c.scalar(select(table.c.id).where(table.c.sha256 == sha256, table.c.status == "retired"))
    if found is not None:
        return found
    new = new_id()
    c.execute(
        insert(table).values(
            id=new,
            version=(c.scalar(select(func.max(table.c.version))) or 0) + 1,
            body=UNKNOWN_GUIDELINES,
            flags=known,
            sha256=sha256,
            status="retired",  # never the current one
            created_at=clock.now(),
            published_at=clock.now(),
        )
    )
    return new


def _store(c: Connection, name: str, ranked: Sequence[_Ranked], guideline_id: str) -> tuple[tuple[str, ...], int]:
    """Batches, tasks and submissions; the batches' names and the number of tasks."""
    criteria = list(dict.fromkeys(one.criterion for one in ranked))
    names: list[str] = []
    count = 0
    for criterion in criteria:
        own = [one for one in ranked if one.criterion == criterion]
        called = name if len(criteria) == 1 else f"{name}, {criterion or 'no criterion'}"
        names.append(called[:120])
        batch_id = _batch(c, called[:120], "demonstration" if own[0].text is not None else "ranking", own, guideline_id)
        count += _store_tasks(c, batch_id, own, guideline_id)
    return tuple(names), count


def _batch(c: Connection, name: str, kind: str, ranked: Sequence[_Ranked], guideline_id: str) -> str:
    if c.scalar(select(tables.batch.c.id).where(tables.batch.c.name == name)) is not None:
        raise DataError(f"There is a batch named {name} already. Give batch= another name.")
    most = max(len(one.tiers) for one in ranked)
    config = BatchConfig.model_validate({"gold_rate": 0, "gold_rate_start": 0, "responses_per_task": max(2, most)})
    new = new_id()
    c.execute(
        insert(tables.batch).values(
            id=new,
            name=name,
            kind=kind,
            status="closed",
            purpose="work",
            guideline_id=guideline_id,
            config=config.model_dump(mode="json"),
            created_at=clock.now(),
        )
    )
    return new


def _store_tasks(c: Connection, batch_id: str, ranked: Sequence[_Ranked], guideline_id: str) -> int:
    shas = _prompt_hashes(c, {one.prompt_id for one in ranked})
    tasks: list[dict[str, Any]] = []
    cards: list[dict[str, Any]] = []
    judged: list[tuple[str, _Ranked]] = []
    for group in _tasks(ranked):
        first, task_id = group.judgments[0], new_id()
        content = "\n".join([shas[first.prompt_id], *sorted(first.tiers), *([str(group.repeat)] * (group.repeat > 1))])
        criterion = {"criterion": first.criterion} if first.criterion else {}
        tasks.append(
            {
                "id": task_id,
                "batch_id": batch_id,
                "prompt_id": first.prompt_id,
                "status": "complete",
                "overlap": len(group.judgments),
                "slots_taken": len(group.judgments),
                "submitted": len(group.judgments),
                "priority": 0.0,
                "agreement": agreement([one.tiers for one in group.judgments]) if first.text is None else None,
                "selection": {"policy": "recorded", **criterion},
                "content_key": hashlib.sha256(content.encode()).hexdigest(),
                "created_at": clock.now(),
            }
        )
        cards += [
            {"task_id": task_id, "response_id": response, "prompt_id": first.prompt_id, "slot": slot}
            for slot, response in enumerate(first.tiers if first.text is None else ())
        ]
        judged += [(task_id, one) for one in group.judgments]
    _insert(c, tables.task, tasks)
    _insert(c, tables.task_response, cards)
    _store_judgments(c, judged, guideline_id)
    return len(tasks)


class _Task(NamedTuple):
    judgments: list[_Ranked]
    repeat: int  # 1, or higher for what somebody judged again


def _tasks(ranked: Iterable[_Ranked]) -> Iterator[_Task]:
    """Judgments of the same responses, at most one a labeler: what somebody judged again is a task of its own."""
    groups: defaultdict[tuple[Any, ...], list[dict[str, _Ranked]]] = defaultdict(list)
    for one in ranked:
        rounds = groups[one.prompt_id, tuple(sorted(one.tiers)) if one.text is None else ()]
        free = next((number for number, judged in enumerate(rounds) if one.member_id not in judged), len(rounds))
        if free == len(rounds):
            rounds.append({})
        rounds[free][one.member_id] = one
    for rounds in groups.values():
        for number, judged in enumerate(rounds, start=1):
            yield _Task(list(judged.values()), number)


def _prompt_hashes(c: Connection, ids: Iterable[str]) -> dict[str, str]:
    wanted = sorted(ids)
    found: dict[str, str] = {}
    for start in range(0, len(wanted), 2000):
        part = wanted[start : start + 2000]
        rows = c.execute(select(tables.prompt.c.id, tables.prompt.c.sha256).where(tables.prompt.c.id.in_(part)))
        found |= {row.id: row.sha256 for row in rows}
    return found


def _store_judgments(c: Connection, judged: Sequence[tuple[str, _Ranked]], guideline_id: str) -> None:
    assignments: list[dict[str, Any]] = []
    submissions: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    flags: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = []
    for task_id, one in judged:
        assignment_id, submission_id, key = new_id(), new_id(), new_id()
        ended = one.extras.submitted or clock.now()
        started = one.extras.started or ended - int(1000 * (one.extras.seconds or 0))
        assignments.append(
            {
                "id": assignment_id,
                "task_id": task_id,
                "member_id": one.member_id,
                "state": "submitted",
                "leased_at": started,
                "lease_expires_at": started + _LEASE,
                "shown": list(one.shown),  # empty: nobody recorded it
                "idempotency_key": key,
                "guideline_id": guideline_id,
                "ended_at": ended,
            }
        )
        submissions.append(
            {
                "id": submission_id,
                "assignment_id": assignment_id,
                "revision": 1,
                "idempotency_key": key,
                "request_sha256": hashlib.sha256(json.dumps(one.tiers, sort_keys=True).encode()).hexdigest(),
                "outcome": "none_acceptable" if one.extras.none_acceptable else "answered",
                "confidence": one.extras.confidence,
                "active_ms": one.extras.active_ms,
                "guideline_id": guideline_id,
                "created_at": ended,
            }
        )
        if one.text is None:
            entries += [{"submission_id": submission_id, "response_id": r, "tier": t} for r, t in one.tiers.items()]
        flags += [
            {"submission_id": submission_id, "response_id": response, "flag": flag}
            for response, raised in one.flags.items()
            for flag in raised
        ]
        texts = {"reason": one.extras.reason, "demonstration": one.text}
        words += [{"submission_id": submission_id, "field": f, "body": body} for f, body in texts.items() if body]
    for table, rows in (
        (tables.assignment, assignments),
        (tables.submission, submissions),
        (tables.ranking_entry, entries),
        (tables.flag_entry, flags),
        (tables.submission_text, words),
    ):
        _insert(c, table, rows)


def _insert(c: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), 5000):
        c.execute(insert(table), rows[start : start + 5000])
