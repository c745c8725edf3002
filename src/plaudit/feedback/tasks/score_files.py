"""A file of scores that says what to label next: checked line by line, matched with prompts, chosen from.

A row holds a prompt and either its `score` (how much a judgment would teach; higher is sooner) or `members`: for each
reward model of an ensemble the scores of the answers, as `plaudit reward` and `plaudit score` write them. How far the
members are apart is then the score.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection, select

from plaudit.core.errors import DataError
from plaudit.core.records import Source
from plaudit.datasets.formats import prompt_row
from plaudit.datasets.problems import DroppableRow, RowProblem, shown_value
from plaudit.feedback import audit_log
from plaudit.feedback.content.content import prompt_sha256
from plaudit.feedback.content.import_files import Checked, begin, read_rows
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store.tables import audit_event, prompt, task
from plaudit.feedback.tasks.batches import get_batch
from plaudit.feedback.tasks.selection import Scored, SelectionConfig, candidates, choose, chosen_tasks, ensemble_spread
from plaudit.feedback.tasks.tasks import add_tasks

ACTION = "task.choose"
_AT_ONCE = 2000


class PromptScore(NamedTuple):
    """A line of the file: the key of its prompt, and its score."""

    sha256: str
    score: float


class Choice(NamedTuple):
    """What was chosen: `prompts` of `candidates`, `at_random` of them by lot.

    left_out: prompts of the file that could not be chosen, by cause.
    """

    prompts: int
    at_random: int
    candidates: int
    tasks: int
    left_out: Mapping[str, int]


class ChosenPart(NamedTuple):
    """Tasks of a batch that were chosen by score, or by lot beside them, with the range of their probabilities."""

    policy: str
    at_random: bool
    tasks: int
    candidates: int
    least_likely: float
    most_likely: float


def check_scores(path: Path, *, name: str | None = None) -> Checked:
    """Read a whole file of scores. Faults of rows are in the result, not raised; rows without a score are left out.

    Raises DataError: the file cannot be read at all, or is larger than an import may be.
    """
    seen: dict[str, int] = {}

    def read(raw: Mapping[str, Any], source: Source) -> Iterator[PromptScore]:
        found = PromptScore(prompt_sha256(prompt_row(raw, source).prompt), _score(raw))
        if found.sha256 in seen:
            raise RowProblem(f"line {seen[found.sha256]} scores the same prompt; give each prompt one score")
        seen[found.sha256] = source.line
        yield found

    return read_rows(path, begin(path, "scores", name), read)


def add_chosen(c: Connection, batch_id: str, checked: Checked, config: SelectionConfig, *, by: str | None) -> Choice:
    """Choose prompts by the scores of a checked file and add their tasks to a batch for work.

    Raises:
        DataError: the file has faults.
        FeedbackError: "wrong_purpose" for a batch of gold questions; "no_tasks" if no prompt of the file may be chosen.
    """
    checked.raise_if_faulty()
    batch = get_batch(c, batch_id)
    if batch.purpose != "work":
        raise FeedbackError("wrong_purpose", f"{batch.name} holds gold questions, which nobody chooses by score.")
    known = _prompt_ids(c, [row.record.sha256 for row in checked.rows])
    scored = [Scored(known[row.record.sha256], row.record.score) for row in checked.rows if row.record.sha256 in known]
    found = candidates(c, scored, batch.kind)
    left_out = found.left_out + checked.left_out
    if missing := len(checked.rows) - len(scored):
        left_out["not in this project"] = missing
    if not found.scored:
        told = ", ".join(f"{count} {cause}" for cause, count in left_out.most_common())
        raise FeedbackError("no_tasks", f"No prompt of {checked.name} can be chosen: {told}.", status=422)
    chosen = choose(found.scored, config)
    added = add_tasks(c, batch_id, chosen_tasks(c, chosen, batch.config, batch.kind), by=by)
    at_random = sum(one.at_random for one in chosen)
    choice = Choice(len(chosen), at_random, len(found.scored), added.new, dict(left_out))
    audit_log.record(
        c,
        ACTION,
        "batch",
        batch_id,
        {**choice._asdict(), "policy": config.policy, "seed": config.seed, "file_sha256": checked.sha256},
        by=by,
    )
    return choice


def last_choice(c: Connection, batch_id: str) -> Choice | None:
    """What the newest choice for this batch was, from the log."""
    event = audit_event
    mine = (event.c.action == ACTION) & (event.c.object_id == batch_id)
    detail = c.scalar(select(event.c.detail).where(mine).order_by(event.c.seq.desc()).limit(1))
    return Choice(*(detail[name] for name in Choice._fields)) if detail else None


def chosen_parts(c: Connection, batch_id: str) -> list[ChosenPart]:
    """How the tasks of a batch were chosen, from what is kept with each; empty where nobody chose by score."""
    groups: dict[tuple[str, bool], list[Mapping[str, Any]]] = {}
    for selection in c.execute(select(task.c.selection).where(task.c.batch_id == batch_id)).scalars():
        if "probability" in selection:
            groups.setdefault((selection["policy"], selection["random"]), []).append(selection)
    return [
        ChosenPart(
            policy,
            at_random,
            len(group),
            max(one["candidates"] for one in group),
            min(one["probability"] for one in group),
            max(one["probability"] for one in group),
        )
        for (policy, at_random), group in sorted(groups.items())
    ]


def _score(raw: Mapping[str, Any]) -> float:
    if "members" in raw:
        return _spread(raw["members"])
    if "score" not in raw:
        has = ", ".join(f"`{name}`" for name in raw)
        raise RowProblem(f"the row has neither `score` nor `members`; it has {has}")
    score = raw["score"]
    if score is None:
        raise DroppableRow("without a score", "no score")
    if not _is_number(score):
        raise RowProblem(f"`score` is {shown_value(score)}; write a number")
    return float(score)


def _spread(members: Any) -> float:
    if not isinstance(members, list) or not all(isinstance(row, list) for row in cast(list[Any], members)):
        raise RowProblem(f"`members` is {shown_value(members)}; write a list of scores for each reward model")
    rows = cast(list[list[Any]], members)
    values = [value for row in rows for value in row]
    if None in values:
        raise DroppableRow("without a score", "no score")
    if wrong := [value for value in values if not _is_number(value)]:
        raise RowProblem(f"`members` holds {shown_value(wrong[0])}; write numbers")
    try:
        return ensemble_spread(rows)
    except DataError as error:
        raise RowProblem(str(error)) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _prompt_ids(c: Connection, keys: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(keys), _AT_ONCE):
        mine = prompt.c.sha256.in_(keys[start : start + _AT_ONCE])
        found |= dict(c.execute(select(prompt.c.sha256, prompt.c.id).where(mine)).all())
    return found
