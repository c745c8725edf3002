"""Two policies compared by several judges, written into a run folder of stage "evaluate" as the report reads it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from plaudit.core.errors import DataError
from plaudit.core.records import Prompt, prompt_key
from plaudit.core.run import Run
from plaudit.evaluation.winrate import as_dict, win_rate
from plaudit.rollouts.scoring import Scorer


class Contestant(NamedTuple):
    """A policy's name and its answers, one a prompt (n,)."""

    name: str
    answers: Sequence[str]


class Judge(NamedTuple):
    """A scorer and whether it is independent: had no part in training or choosing either policy."""

    scorer: Scorer
    independent: bool
    note: str = ""  # a sentence for the report: who or what this judge is


def compare_policies(
    run: Run, prompts: Sequence[Prompt], a: Contestant, b: Contestant, judges: Sequence[Judge]
) -> list[dict[str, Any]]:
    """Win rates of a against b, one a judge, for `summary["comparisons"]`; the answers go to samples.jsonl.

    Several answers to a prompt repeat it in `prompts`. Each answer of a meets each answer of b to the same prompt,
    which narrows the interval for free: K answers a side give K * K comparisons. The first judge's scores are those
    shown beside the answers.

    Raises:
        DataError: numbers of prompts and answers differ, no judge, or a judge scores nothing on both sides.
    """
    if not len(prompts) == len(a.answers) == len(b.answers):
        raise DataError(
            f"{len(prompts)} prompts, {len(a.answers)} answers of {a.name} and {len(b.answers)} of {b.name}; "
            "give one answer of each policy a prompt."
        )
    if not judges:
        raise DataError("No judge was given, so nobody can say which answers are better; name one or more.")
    scores = [(judge.scorer.score(prompts, a.answers), judge.scorer.score(prompts, b.answers)) for judge in judges]
    pairs = _pairs_of_same_prompt(prompts)
    comparisons = [
        {"a": a.name, "b": b.name, "judge": judge.scorer.name, "independent": judge.independent, "note": judge.note}
        | as_dict(
            win_rate(
                [own[i] for i, _ in pairs],
                [other[j] for _, j in pairs],
                [prompt_key(prompts[i]) for i, _ in pairs],
                lengths_a=[len(a.answers[i]) for i, _ in pairs],
                lengths_b=[len(b.answers[j]) for _, j in pairs],
            )
        )
        for judge, (own, other) in zip(judges, scores, strict=True)
    ]
    for prompt, answer_a, answer_b, score_a, score_b in zip(prompts, a.answers, b.answers, *scores[0], strict=True):
        run.sample(
            0,
            prompt=[{"role": message.role, "content": message.content} for message in prompt],
            a=a.name,
            b=b.name,
            judge=judges[0].scorer.name,
            answer_a=answer_a,
            answer_b=answer_b,
            score_a=score_a,
            score_b=score_b,
        )
    return comparisons


def _pairs_of_same_prompt(prompts: Sequence[Prompt]) -> list[tuple[int, int]]:
    """Places (i, j) of every answer of a beside every answer of b to the same prompt."""
    places: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        places.setdefault(prompt_key(prompt), []).append(place)
    return [pair for same in places.values() for pair in itertools.product(same, same)]
