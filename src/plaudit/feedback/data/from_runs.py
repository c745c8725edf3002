"""What runs bring into a project: sampled answers to be ranked, and samples of a trained run that deserve a look.

A run is read from its folder alone, without torch. Each answer keeps where it comes from: the run, the hash of the
weights, how it was drawn.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, select

from plaudit.core.errors import DataError
from plaudit.core.files import read_jsonl, sha256_file
from plaudit.core.records import Prompt, prompt_key, prompt_of_turns
from plaudit.core.run import read_config, read_inputs, read_log
from plaudit.feedback import audit_log
from plaudit.feedback.content.content import NewPrompt, NewResponse, add_many_responses, add_origin, add_prompts
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store.tables import prompt
from plaudit.feedback.tasks.batches import BatchConfig, create_batch
from plaudit.feedback.tasks.selection import Scored, SelectionConfig, choose, ensemble_spread
from plaudit.feedback.tasks.tasks import NewTask, add_tasks

ANSWERS, HELD_OUT = "answers.jsonl", "held_out_scores.jsonl"
_AT_ONCE = 2000

Reason = Literal["uncertainty", "suspicion"]


class RunPrompt(NamedTuple):
    """A prompt of a run, its distinct answers (the most telling first), and how much a judgment would teach."""

    prompt: Prompt
    responses: tuple[str, ...]
    details: tuple[Mapping[str, Any], ...]
    score: float = 0.0


class Brought(NamedTuple):
    """What came into the project. `skipped` prompts had fewer than two different answers, or could not be asked."""

    batch_id: str
    tasks: int
    prompts: int
    responses: int
    skipped: int


def answers_of(run: Path) -> list[RunPrompt]:
    """The answers of a sampling run, empty ones left out.

    Raises DataError: the run has no answers.
    """
    file = run / ANSWERS
    if not file.is_file():
        raise DataError(f"{run} holds no {ANSWERS}. Sample with `plaudit sample`, or name the folder of such a run.")
    found: list[RunPrompt] = []
    for row in read_jsonl(file):
        kept: dict[str, Mapping[str, Any]] = {}
        for text, finished, tokens in zip(row["responses"], row["finished"], row["tokens"], strict=True):
            if text.strip():
                kept.setdefault(text, {"finished": finished, "tokens": tokens})
        found.append(RunPrompt(prompt_of_turns(row["prompt"]), tuple(kept), tuple(kept.values())))
    return found


def telling_samples(run: Path, by: Reason) -> list[RunPrompt]:
    """The prompts of a trained run with how uncertain or suspicious its answers are.

    uncertainty: how far the members of an ensemble are apart: of the reward run's held-out prompts
                 (`selection.ensemble_spread`), or the mean spread of the samples of a PPO run.
    suspicion:   of a PPO run, by how many standard deviations the reward of an answer lies higher than its judge's
                 score: what the reward likes and the judge does not is where a policy games its reward.

    Raises DataError: the run holds nothing to tell it by.
    """
    if by == "uncertainty" and (run / HELD_OUT).is_file():
        return _by_ensemble(run)
    samples = [row for row in read_log(run, "samples") if "reward" in row]
    scored = _suspicion(samples) if by == "suspicion" else _spread(samples)
    if not scored:
        wanted = "a judge" if by == "suspicion" else "a reward ensemble (members=3 or more)"
        raise DataError(
            f"{run} holds no sample with {'a reward and ' if by == 'suspicion' else 'the spread of '}{wanted}, so "
            f"nothing in it can be told by {by}. Name a PPO run that had one, or use the other by=."
        )
    groups: defaultdict[str, list[tuple[float, Mapping[str, Any]]]] = defaultdict(list)
    for score, row in scored:
        if row["response"].strip():
            groups[prompt_key(prompt_of_turns(row["prompt"]))].append((score, row))
    return [_group(group, by) for group in groups.values()]


def bring_answers(
    c: Connection,
    run: Path,
    found: Sequence[RunPrompt],
    *,
    batch: str,
    config: BatchConfig,
    by: str | None,
    model: str | None = None,
) -> Brought:
    """Put the answers of a run into a new ranking batch, in draft: one task a prompt.

    model: what the model is called; the run's name if not given.
    """
    prompt_ids, responses = _store(c, run, found, model)
    tasks = [
        NewTask(prompt_id, ids[: config.responses_per_task])
        for prompt_id, ids in zip(prompt_ids, responses, strict=True)
        if len(ids) > 1
    ]
    return _add(c, run, batch, config, tasks, prompt_ids, responses, by)


def bring_telling(
    c: Connection,
    run: Path,
    found: Sequence[RunPrompt],
    selection: SelectionConfig,
    *,
    batch: str,
    config: BatchConfig,
    by: str | None,
) -> Brought:
    """Choose prompts of a trained run by their scores (`selection.choose`) and put them into a new batch, in draft.

    Prompts held out for validation or test are never chosen: by score, they would be a distorted sample.
    """
    prompt_ids, responses = _store(c, run, found, None)
    may = _training_prompts(c, prompt_ids)
    shown = {name: ids for name, ids in zip(prompt_ids, responses, strict=True) if name in may and len(ids) > 1}
    scores = {name: one.score for name, one in zip(prompt_ids, found, strict=True) if name in shown}
    chosen = choose((Scored(name, score) for name, score in scores.items()), selection)
    tasks = [
        NewTask(one.prompt_id, shown[one.prompt_id][: config.responses_per_task], selection=one.record())
        for one in chosen
    ]
    return _add(c, run, batch, config, tasks, prompt_ids, responses, by)


def _add(
    c: Connection,
    run: Path,
    batch: str,
    config: BatchConfig,
    tasks: Sequence[NewTask],
    prompt_ids: Sequence[str],
    responses: Sequence[Sequence[str]],
    by: str | None,
) -> Brought:
    if not tasks:
        raise FeedbackError(
            "no_tasks",
            f"Nothing of {run} can be asked: no prompt in use has two different answers. Sample more answers a prompt, "
            "or at a higher temperature.",
        )
    batch_id = create_batch(c, batch, "ranking", "work", config, by=by)
    added = add_tasks(c, batch_id, tasks, by=by)
    audit_log.record(c, "import.run", "batch", batch_id, {"tasks": added.new}, by=by)
    return Brought(
        batch_id, added.new, len(set(prompt_ids)), sum(map(len, responses)), len(set(prompt_ids)) - len(tasks)
    )


def _store(
    c: Connection, run: Path, found: Sequence[RunPrompt], model: str | None
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Ids of the prompts and of their responses."""
    settings, inputs = read_config(run), read_inputs(run)
    name = model or str(settings.get("model") or run.name)
    content: Mapping[str, str] = inputs["inputs"]
    info = {
        "run": str(run.resolve()),
        "stage": inputs["stage"],
        "model_sha256": content.get("model") or content.get("policy"),
        "config_sha256": sha256_file(run / "config.yaml"),
        "sampling": settings.get("sampling"),
        "seed": settings.get("seed"),
    }
    asked = add_origin(c, "import", f"prompts of {run.name}", {"run": info["run"], "prompts": content.get("prompts")})
    origin_id = add_origin(c, "model", name, info)
    prompt_ids = add_prompts(c, (NewPrompt(one.prompt, asked) for one in found)).ids
    stored = iter(
        add_many_responses(
            c,
            (
                NewResponse(prompt_id, text, origin_id, detail)
                for one, prompt_id in zip(found, prompt_ids, strict=True)
                for text, detail in zip(one.responses, one.details, strict=True)
            ),
        ).ids
    )
    return prompt_ids, [tuple(next(stored) for _ in one.responses) for one in found]


def _training_prompts(c: Connection, ids: Iterable[str]) -> set[str]:
    wanted = sorted(set(ids))
    found: set[str] = set()
    for start in range(0, len(wanted), _AT_ONCE):
        mine = prompt.c.id.in_(wanted[start : start + _AT_ONCE])
        query = select(prompt.c.id).where(mine, prompt.c.status == "active", prompt.c.split == "train")
        found.update(c.execute(query).scalars())
    return found


def _by_ensemble(run: Path) -> list[RunPrompt]:
    found: list[RunPrompt] = []
    for row in read_jsonl(run / HELD_OUT):
        if "members" not in row:
            raise DataError(
                f"{run / HELD_OUT} holds the scores of one reward model, whose uncertainty nobody knows. Train an "
                "ensemble (members=3 or more)."
            )
        details = [{"score": score} for score in row["scores"]]
        found.append(
            RunPrompt(
                prompt_of_turns(row["prompt"]), tuple(row["responses"]), tuple(details), ensemble_spread(row["members"])
            )
        )
    return found


def _suspicion(samples: Sequence[Mapping[str, Any]]) -> list[tuple[float, Mapping[str, Any]]]:
    judged = [row for row in samples if row.get("judge") is not None and row["reward"] is not None]
    rewards, judges = _standardised(judged, "reward"), _standardised(judged, "judge")
    return [(reward - judge, row) for reward, judge, row in zip(rewards, judges, judged, strict=True)]


def _spread(samples: Sequence[Mapping[str, Any]]) -> list[tuple[float, Mapping[str, Any]]]:
    return [(float(row["spread"]), row) for row in samples if row.get("spread") is not None]


def _standardised(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    values = [float(row[name]) for row in rows]
    if not values:
        return []
    mean, spread = math.fsum(values) / len(values), statistics.pstdev(values)
    return [(value - mean) / spread if spread > 0 else 0.0 for value in values]


def _group(group: Sequence[tuple[float, Mapping[str, Any]]], by: Reason) -> RunPrompt:
    """The distinct answers to one prompt, highest score first."""
    best: dict[str, tuple[float, Mapping[str, Any]]] = {}
    for score, row in sorted(group, key=lambda one: (-one[0], one[1]["step"], one[1]["response"])):
        best.setdefault(row["response"], (score, row))
    scores = [score for score, _ in best.values()]
    details = tuple(
        {name: row[name] for name in ("step", "reward", "judge", "spread") if row.get(name) is not None} | {by: score}
        for score, row in best.values()
    )
    total = max(scores) if by == "suspicion" else math.fsum(scores) / len(scores)
    return RunPrompt(prompt_of_turns(group[0][1]["prompt"]), tuple(best), details, total)
