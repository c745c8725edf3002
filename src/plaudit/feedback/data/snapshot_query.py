"""The judgments that a recipe takes, out of the database, and how many each of its filters left out."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, exists, select

from plaudit.core.records import Prompt
from plaudit.datasets.splits import near_key
from plaudit.feedback.content.content import read_prompt
from plaudit.feedback.data.recipe import Recipe
from plaudit.feedback.data.snapshot_rows import Picked
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.gold.gold_accuracy import gold_accuracy
from plaudit.feedback.store.tables import (
    assignment,
    batch,
    gold_key,
    guideline,
    member,
    origin,
    prompt,
    ranking_entry,
    response,
    submission,
    submission_text,
    task,
    task_response,
)
from plaudit.feedback.tasks.effective import is_effective

_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Selection:
    """What a recipe takes.

    dropped:    judgments that were left out, by the first filter that did.
    guidelines: version -> hash of the text, of what was taken.
    origins:    of the responses, or of the prompts of demonstrations: kind, name, fingerprint, licence.
    """

    picked: list[Picked]
    dropped: Counter[str]
    guidelines: dict[int, str]
    origins: list[dict[str, Any]]


def select_judgments(c: Connection, recipe: Recipe) -> Selection:
    """Apply a recipe.

    Raises FeedbackError "not_found" for a batch that does not exist.
    """
    _check_batches(c, recipe)
    dropped: Counter[str] = Counter()
    passed = _gold_passed(c, recipe)
    test = _test_prompts(c) if "test" not in recipe.splits else set[str]()
    taken: list[Row[Any]] = []
    prompts: dict[str, Prompt] = {}
    for row in c.execute(_submissions(recipe).order_by(submission.c.id).execution_options(yield_per=_AT_ONCE)):
        cause = _left_out(row, recipe, passed)
        if cause is None:
            known = prompts.setdefault(row.prompt_id, read_prompt(row))
            cause = "prompt is nearly a test prompt" if near_key(known) in test else None
        if cause is None:
            taken.append(row)
        else:
            dropped[cause] += 1
    if recipe.kind == "demonstrations":
        picked = _demonstrations(c, taken, prompts, dropped)
    else:
        picked = _rankings(c, taken, prompts, dropped)
    picked = _judged_enough(picked, recipe, dropped)
    kept = {one.submission_id for one in picked}
    rows = [row for row in taken if row.id in kept]
    versions = {row.version: row.guideline_sha256 for row in sorted(rows, key=lambda row: row.version)}
    return Selection(picked, dropped, versions, _origins(c, rows, recipe))


def _submissions(recipe: Recipe) -> Select[*tuple[Any, ...]]:
    """All effective submissions of work batches, and what the filters look at."""
    kind = "demonstration" if recipe.kind == "demonstrations" else "ranking"
    is_gold = exists().where(gold_key.c.task_id == task.c.id)
    query = (
        select(
            submission.c.id,
            submission.c.outcome,
            assignment.c.task_id,
            task.c.prompt_id,
            task.c.selection,
            prompt.c.messages,
            prompt.c.split,
            guideline.c.version,
            guideline.c.sha256.label("guideline_sha256"),
            member.c.id.label("member_id"),
            member.c.pseudonym,
            member.c.kind,
            member.c.state,
            is_gold.label("is_gold"),
        )
        .join(assignment, assignment.c.id == submission.c.assignment_id)
        .join(task, task.c.id == assignment.c.task_id)
        .join(batch, batch.c.id == task.c.batch_id)
        .join(prompt, prompt.c.id == task.c.prompt_id)
        .join(member, member.c.id == assignment.c.member_id)
        .join(guideline, guideline.c.id == submission.c.guideline_id)
        .where(
            batch.c.purpose == "work",
            batch.c.kind == kind,
            assignment.c.state == "submitted",
            is_effective(submission),
        )
    )
    return query if recipe.batches is None else query.where(batch.c.name.in_(recipe.batches))


def _left_out(row: Row[Any], recipe: Recipe, passed: Mapping[str, float]) -> str | None:
    """The first filter that a submission does not pass. Gold questions have a known answer: they are never data."""
    checks = (
        (row.is_gold, "gold question"),
        (row.kind not in recipe.labelers, f"labeler is {row.kind}"),
        (recipe.states is not None and row.state not in recipe.states, f"labeler is {row.state}"),
        (row.pseudonym in recipe.without, "labeler is left out by name"),
        (
            recipe.min_gold is not None and row.member_id not in passed,
            f"labeler answered fewer than {recipe.min_gold_answers} gold questions",
        ),
        (
            recipe.min_gold is not None and passed.get(row.member_id, 0.0) < recipe.min_gold,
            f"labeler passed less than {recipe.min_gold} of the gold questions",
        ),
        (recipe.guidelines is not None and row.version not in recipe.guidelines, "other guidelines"),
        (recipe.criterion is not None and row.selection.get("criterion") != recipe.criterion, "another criterion"),
        (row.split not in recipe.splits, f"{row.split} prompt"),
        (recipe.acceptable_only and row.outcome == "none_acceptable", "no response is acceptable"),
    )
    return next((cause for applies, cause in checks if applies), None)


def _check_batches(c: Connection, recipe: Recipe) -> None:
    if recipe.batches is None:
        return
    known = set(c.execute(select(batch.c.name).where(batch.c.name.in_(recipe.batches))).scalars())
    if missing := [name for name in recipe.batches if name not in known]:
        raise FeedbackError("not_found", f"There is no batch named {', '.join(missing)}.", status=404)


def _gold_passed(c: Connection, recipe: Recipe) -> dict[str, float]:
    """Share of gold questions passed, by member, of those who answered enough of them."""
    if recipe.min_gold is None:
        return {}
    return {
        one.member_id: one.passed / one.answers for one in gold_accuracy(c) if one.answers >= recipe.min_gold_answers
    }


def _test_prompts(c: Connection) -> set[str]:
    """Keys of the test prompts, under which a prompt that differs in case or punctuation only is the same."""
    return {near_key(read_prompt(row)) for row in c.execute(select(prompt.c.messages).where(prompt.c.split == "test"))}


def _demonstrations(
    c: Connection, taken: Sequence[Row[Any]], prompts: Mapping[str, Prompt], dropped: Counter[str]
) -> list[Picked]:
    words: dict[str, str] = {}
    for part in _parts([row.id for row in taken]):
        text = submission_text.c
        query = select(text.submission_id, text.body).where(text.submission_id.in_(part), text.field == "demonstration")
        words |= {row.submission_id: row.body for row in c.execute(query) if row.body is not None}
    dropped["the words were erased"] += sum(row.id not in words for row in taken)
    return [
        Picked(
            row.id, prompts[row.prompt_id], row.pseudonym, row.kind, row.selection.get("criterion"), text=words[row.id]
        )
        for row in taken
        if row.id in words
    ]


def _rankings(
    c: Connection, taken: Sequence[Row[Any]], prompts: Mapping[str, Prompt], dropped: Counter[str]
) -> list[Picked]:
    bodies: dict[str, str] = {}  # each text once in memory, however many judged it
    tiers: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for part in _parts([row.id for row in taken]):
        entry = ranking_entry.c
        for row in c.execute(select(ranking_entry).where(entry.submission_id.in_(part))):
            tiers[row.submission_id][row.response_id] = row.tier
            bodies.setdefault(row.response_id, "")
    for part in _parts(list(bodies)):
        query = select(response.c.id, response.c.body).where(response.c.id.in_(part))
        bodies |= {row.id: row.body for row in c.execute(query)}
    picked: list[Picked] = []
    for row in taken:
        given = tiers[row.id]
        if not given:
            dropped["nothing was ranked"] += 1
            continue
        # Equal texts of two models stand in the order of their tiers, so that keys of the database play no part.
        ranked = sorted((bodies[response_id], tier) for response_id, tier in given.items())
        texts, ranks = (tuple(column) for column in zip(*ranked, strict=True))
        criterion = row.selection.get("criterion")
        picked.append(Picked(row.id, prompts[row.prompt_id], row.pseudonym, row.kind, criterion, texts, ranks))
    return picked


def _judged_enough(picked: list[Picked], recipe: Recipe, dropped: Counter[str]) -> list[Picked]:
    if recipe.min_judgments == 1:
        return picked
    keys = [(one.item, one.criterion) for one in picked]
    counts = Counter(keys)
    kept = [one for one, key in zip(picked, keys, strict=True) if counts[key] >= recipe.min_judgments]
    dropped[f"task has fewer than {recipe.min_judgments} judgments"] += len(picked) - len(kept)
    return kept


def _origins(c: Connection, rows: Sequence[Row[Any]], recipe: Recipe) -> list[dict[str, Any]]:
    """Where prompts and responses come from, with the licence where it is known."""
    ids: set[str] = set()
    for part in _parts(sorted({row.prompt_id for row in rows})):
        ids.update(c.execute(select(prompt.c.origin_id).where(prompt.c.id.in_(part)).distinct()).scalars())
    if recipe.kind != "demonstrations":
        for part in _parts(sorted({row.task_id for row in rows})):
            shown = task_response.c.response_id == response.c.id
            query = select(response.c.origin_id).join(task_response, shown).where(task_response.c.task_id.in_(part))
            ids.update(c.execute(query.distinct()).scalars())
    found = [
        {"kind": row.kind, "name": row.name, "fingerprint": row.fingerprint, "licence": row.info.get("licence")}
        for part in _parts(sorted(ids))
        for row in c.execute(select(origin).where(origin.c.id.in_(part)))
    ]
    return sorted(found, key=lambda one: (one["kind"], one["name"], one["fingerprint"]))


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))
