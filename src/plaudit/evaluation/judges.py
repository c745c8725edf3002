"""Judges that see two answers at once, asked in both orders.

A model, or a person, that reads two answers favours one position (Zheng et al. 2023, section 3.3). A verdict therefore
counts only if it survives exchanging the answers; one that does not is a tie. An order without a verdict makes the
comparison unscored, which is never a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from plaudit.core.errors import DataError
from plaudit.core.records import Prompt

Verdict = Literal["first", "second", "tie"]
_OUTCOME: dict[Verdict, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}


class PairwiseJudge(Protocol):
    """Says which of two answers is better; None when it cannot tell what it was asked for (a refusal, a lost reply)."""

    name: str

    def judge(self, prompt: Prompt, first: str, second: str) -> Verdict | None: ...


class Outcomes(NamedTuple):
    """What a judge said about (a, b), one entry a comparison."""

    outcomes: list[float | None]  # 1 a wins, 0 b wins, 0.5 tie, None unscored
    changed: int  # verdicts that did not survive the exchange and became ties


def judge_both_orders(
    judge: PairwiseJudge, prompts: Sequence[Prompt], answers_a: Sequence[str], answers_b: Sequence[str]
) -> Outcomes:
    """Ask for every (a, b) as (first, second) and as (second, first).

    Raises:
        DataError: the judge returned something that is no verdict.
    """
    outcomes: list[float | None] = []
    changed = 0
    for prompt, a, b in zip(prompts, answers_a, answers_b, strict=True):
        forth = _outcome(judge, prompt, a, b)
        back = _outcome(judge, prompt, b, a)
        if forth is None or back is None:
            outcomes.append(None)
        elif forth == 1.0 - back:
            outcomes.append(forth)
        else:
            outcomes.append(0.5)
            changed += 1
    return Outcomes(outcomes, changed)


def _outcome(judge: PairwiseJudge, prompt: Prompt, first: str, second: str) -> float | None:
    verdict = judge.judge(prompt, first, second)
    if verdict is None:
        return None
    if verdict not in _OUTCOME:
        raise DataError(
            f'Judge {judge.name} answered {verdict!r}; it must return "first", "second", "tie", or None for no verdict.'
        )
    return _OUTCOME[verdict]
