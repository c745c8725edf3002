"""Speed: do a labeler's fast judgments agree less with the others than their slow ones?"""

from collections.abc import Sequence

import numpy as np

from plaudit.feedback.bias.effects import EVERYBODY, Effect, mean_effect, no_effect
from plaudit.feedback.quality.agreement import agrees_with_others
from plaudit.feedback.quality.outcomes import Floats, Outcomes
from plaudit.feedback.quality.records import Judgment

PROBE = "speed"
SCALE = "points of agreement with the others' majority, faster half minus slower half of a labeler's judgments"


def speed(judgments: Sequence[Judgment], table: Outcomes) -> list[Effect]:
    """The effect of everybody and of each labeler. Speed is seconds a word, against the labeler's own median."""
    if all(judgment.seconds is None for judgment in judgments):
        return [no_effect(PROBE, EVERYBODY, SCALE, "nobody measured the time")]
    fast = _faster_half(judgments, table)
    agrees = agrees_with_others(table)
    usable = (agrees >= 0) & np.isfinite(fast[table.judgment])
    chosen = table.only(usable)
    hits, side = agrees[usable].astype(np.float64), fast[chosen.judgment]
    values = np.zeros(len(hits))
    effects: list[Effect] = []
    for number, name in enumerate(table.labelers):
        own = chosen.labeler == number
        values[own] = _contributions(hits[own], side[own])
        effects.append(Effect(PROBE, name, SCALE, *mean_effect(values[own], chosen.judgment[own])))
    return [Effect(PROBE, EVERYBODY, SCALE, *mean_effect(values, chosen.prompt)), *effects]


def _faster_half(judgments: Sequence[Judgment], table: Outcomes) -> Floats:
    """(J,): 1 for judgments faster than their labeler's median pace, 0 for the others, NaN without time."""
    pace = np.array(
        [
            np.nan
            if judgment.seconds is None
            else judgment.seconds / max(1, sum(len(r.split()) for r in judgment.responses))
            for judgment in judgments
        ]
    )
    fast = np.full(len(judgments), np.nan)
    number = {name: at for at, name in enumerate(table.labelers)}
    who = np.array([number[judgment.labeler] for judgment in judgments])
    for labeler in range(len(table.labelers)):
        own = (who == labeler) & np.isfinite(pace)
        if own.any():
            fast[own] = pace[own] < np.median(pace[own])
    return fast


def _contributions(hits: Floats, side: Floats) -> Floats:
    """Values whose mean, with its clustered spread, is the difference of the two halves' means."""
    n, fast = len(hits), float(side.sum())
    if fast in (0.0, float(n)):
        return np.zeros(n)
    mean_fast, mean_slow = float(hits @ side) / fast, float(hits @ (1 - side)) / (n - fast)
    own = side * (hits - mean_fast) * (n / fast) - (1 - side) * (hits - mean_slow) * (n / (n - fast))
    return own + (mean_fast - mean_slow)
