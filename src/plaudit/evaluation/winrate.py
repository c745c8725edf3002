"""Win rate of policy a against policy b: w = (wins + ties / 2) / n, with an interval clustered by prompt.

Several answers to one prompt are not independent, so prompts, not answers, are the unit of the interval. A comparison
in which either answer has no score is unscored: counted, shown, and never a tie. Beside the raw rate stands the rate
controlled for length, because judges, people among them, tend to prefer the longer answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from plaudit.core.errors import DataError
from plaudit.core.records import Prompt, prompt_key
from plaudit.evaluation.judges import PairwiseJudge, judge_both_orders
from plaudit.evaluation.ratings import length_controlled
from plaudit.evaluation.statistics import Interval, clustered_mean, clustered_proportion
from plaudit.rollouts.scoring import Scorer


class WinRate(NamedTuple):
    """How a did against b. Every interval is 95 % and clustered by prompt."""

    rate: Interval  # share won by a, ties counted as one half
    wins: int
    ties: int
    losses: int
    unscored: int  # comparisons left out because an answer has no score or the judge gave no verdict
    changed: int  # verdicts that changed with the order of the answers and became ties; 0 for scores
    prompts: int  # prompts with at least one scored comparison
    length_controlled: Interval | None  # the rate at equal length; None without lengths
    score_difference: Interval | None  # mean score of a minus mean score of b; None for verdicts
    mean_length_a: float | None  # characters, over the scored comparisons
    mean_length_b: float | None


def compare(prompts: Sequence[Prompt], answers_a: Sequence[str], answers_b: Sequence[str], scorer: Scorer) -> WinRate:
    """Win rate by a scorer that rates each answer on its own; order cannot matter.

    Args:
        prompts: one a comparison; several answers to a prompt repeat it.
        answers_a: answers of the first policy, (n,); answers_b likewise, each compared with the one at its place.
        scorer: a reward model or a rule; None for an answer means unscored.
    """
    scores_a, scores_b = scorer.score(prompts, answers_a), scorer.score(prompts, answers_b)
    keys = [prompt_key(prompt) for prompt in prompts]
    return win_rate(scores_a, scores_b, keys, lengths_a=_lengths(answers_a), lengths_b=_lengths(answers_b))


def compare_pairwise(
    prompts: Sequence[Prompt], answers_a: Sequence[str], answers_b: Sequence[str], judge: PairwiseJudge
) -> WinRate:
    """Win rate by a judge that sees both answers, asked in both orders."""
    found = judge_both_orders(judge, prompts, answers_a, answers_b)
    keys = [prompt_key(prompt) for prompt in prompts]
    return _count(
        found.outcomes, None, keys, lengths_a=_lengths(answers_a), lengths_b=_lengths(answers_b), changed=found.changed
    )


def win_rate(
    scores_a: Sequence[float | None],
    scores_b: Sequence[float | None],
    prompt_keys: Sequence[str],
    *,
    lengths_a: Sequence[int] | None = None,
    lengths_b: Sequence[int] | None = None,
) -> WinRate:
    """Win rate from scores, (n,) each; equal scores are a tie.

    Args:
        prompt_keys: the prompt of each comparison, the unit of the intervals.
        lengths_a: characters of each answer, for the length-controlled rate; lengths_b likewise.

    Raises:
        DataError: a score is not finite, or nothing is scored on both sides.
    """
    outcomes: list[float | None] = []
    differences: list[float | None] = []
    for i, (a, b) in enumerate(zip(scores_a, scores_b, strict=True)):
        if a is None or b is None:
            outcomes.append(None)
            differences.append(None)
            continue
        if not (math.isfinite(a) and math.isfinite(b)):
            raise DataError(
                f"Comparison {i} has the scores {a} and {b}; a score is a finite number, and None when there is none."
            )
        outcomes.append(0.5 * (1.0 + float(np.sign(a - b))))
        differences.append(a - b)
    return _count(outcomes, differences, prompt_keys, lengths_a=lengths_a, lengths_b=lengths_b, changed=0)


def as_dict(found: WinRate) -> dict[str, Any]:
    """The form in which the summary of an evaluation holds it: intervals become `{"value", "low", "high", …}`."""
    return {name: value._asdict() if isinstance(value, Interval) else value for name, value in found._asdict().items()}


def _count(
    outcomes: Sequence[float | None],
    differences: Sequence[float | None] | None,
    prompt_keys: Sequence[str],
    *,
    lengths_a: Sequence[int] | None,
    lengths_b: Sequence[int] | None,
    changed: int,
) -> WinRate:
    if len(outcomes) != len(prompt_keys):
        raise DataError(f"{len(outcomes)} comparisons but {len(prompt_keys)} prompts; give one prompt a comparison.")
    scored = [i for i, outcome in enumerate(outcomes) if outcome is not None]
    if not scored:
        raise DataError(
            f"None of {len(outcomes)} comparisons has a score on both sides, so there is no win rate. "
            "Check what the judge returns for these answers."
        )
    keys = [prompt_keys[i] for i in scored]
    won = np.array([outcomes[i] for i in scored], np.float64)
    lengths = None
    if lengths_a is not None and lengths_b is not None:
        lengths = np.array([[lengths_a[i], lengths_b[i]] for i in scored], np.float64)
    return WinRate(
        rate=clustered_proportion(won, keys),
        wins=int((won == 1.0).sum()),
        ties=int((won == 0.5).sum()),
        losses=int((won == 0.0).sum()),
        unscored=len(outcomes) - len(scored),
        changed=changed,
        prompts=len(set(keys)),
        length_controlled=None if lengths is None else length_controlled(won, lengths[:, 0] - lengths[:, 1], keys),
        score_difference=None
        if differences is None
        else clustered_mean(np.array([differences[i] for i in scored], np.float64), keys),
        mean_length_a=None if lengths is None else float(lengths[:, 0].mean()),
        mean_length_b=None if lengths is None else float(lengths[:, 1].mean()),
    )


def _lengths(answers: Sequence[str]) -> list[int]:
    return [len(answer) for answer in answers]
