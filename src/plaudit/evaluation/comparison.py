"""Two policies compared by several judges, written into a run folder of stage "evaluate" as the report reads it."""

from __future__ import annotations

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

    The first judge's scores are those shown beside the answers. Several answers to a prompt repeat it in `prompts`.

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
    keys = [prompt_key(prompt) for prompt in prompts]
    lengths_a, lengths_b = [len(text) for text in a.answers], [len(text) for text in b.answers]
    scores = [(judge.scorer.score(prompts, a.answers), judge.scorer.score(prompts, b.answers)) for judge in judges]
    comparisons = [
        {"a": a.name, "b": b.name, "judge": judge.scorer.name, "independent": judge.independent, "note": judge.note}
        | as_dict(win_rate(own, other, keys, lengths_a=lengths_a, lengths_b=lengths_b))
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
