"""Length and formatting: does the longer response, or the one with lists, headers or bold, win by that alone?

A logistic model of strictly judged pairs, with all styles and the position on the screen side by side (style control as
in the Chatbot Arena, Li et al. 2024). Long answers can be better answers: for everybody together the model measures a
taste that may well be right. A labeler is therefore compared with the others on the same pairs: what all share, right
or wrong, drops out. Who sees quality more clearly than the others also differs from them, in every style that goes with
quality; the others' votes, with a coefficient of the labeler's own, take most of that away.
"""

import numpy as np

from plaudit.feedback.bias.effects import (
    EVERYBODY,
    LEAST_CLUSTERS,
    LEAST_PAIRS,
    Effect,
    no_effect,
    too_few,
    with_test,
)
from plaudit.feedback.bias.features import STYLES
from plaudit.feedback.bias.logistic import fit
from plaudit.feedback.quality.agreement import others_vote
from plaudit.feedback.quality.intervals import Estimate
from plaudit.feedback.quality.numerics import sigmoid
from plaudit.feedback.quality.outcomes import Floats, Ints, Outcomes

SCALES = {
    "length": "points of win rate for the response twice as long",
    "lists": "points of win rate for the response with a list",
    "headers": "points of win rate for the response with headers",
    "bold": "points of win rate for the response with bold words",
}
SCALES_APART = {name: f"{scale}, compared with the others on the same pairs" for name, scale in SCALES.items()}
LEAST_DIFFERENT = 20
"""Pairs that must differ in a style before its effect is estimated."""


def style(table: Outcomes, differences: Floats, earlier: Floats) -> list[Effect]:
    """The effects of everybody as win rate minus one half, all else equal; of each labeler above that of the others.

    differences: `features.differences`; earlier: `features.shown_earlier` (0 where unknown).
    """
    strict = table.outcome != 0
    chosen, styles, place = table.only(strict), differences[strict], earlier[strict][:, None]
    effects = style_effects(chosen.outcome, styles, place, chosen.prompt, EVERYBODY)
    for number, name in enumerate(table.labelers):
        effects += _apart(chosen, styles, place, number, name)
    return effects


def style_effects(outcome: Ints, styles: Floats, place: Floats, cluster: Ints, labeler: str) -> list[Effect]:
    """One effect a style, as win rate minus one half. `place` (n, 0 or 1): the position, for its own coefficient."""
    used, effects = _testable(styles, len(np.unique(cluster)), labeler, SCALES)
    if not len(used):
        return list(effects.values())
    names = [STYLES[int(column)] for column in used]
    columns = np.concatenate([styles[:, used], place[:, (place != 0).any(axis=0)]], axis=1)
    found = fit(columns, (outcome + 1) / 2, cluster)
    for at, name in enumerate(names):
        logit, p = with_test(float(found.coefficients[at]), float(found.errors[at]), found.n, found.clusters)
        effects[name] = Effect(name, labeler, SCALES[name], _win_rate(logit, 0.0), p)
    return list(effects.values())


def _apart(chosen: Outcomes, styles: Floats, place: Floats, number: int, labeler: str) -> list[Effect]:
    """A labeler's coefficients minus those of the others, from one model of all their judgments of the same pairs."""
    own = chosen.labeler == number
    judged = np.bincount(chosen.unit[own], minlength=chosen.units) > 0
    alone = np.bincount(chosen.unit, minlength=chosen.units) == 1
    rows = np.flatnonzero((judged & ~alone)[chosen.unit])
    mine = own[rows][:, None].astype(np.float64)
    shared = rows[own[rows]]
    used, effects = _testable(styles[shared], len(np.unique(chosen.prompt[shared])), labeler, SCALES_APART)
    if not len(used):
        return list(effects.values())
    others = others_vote(chosen) / np.maximum(1, np.bincount(chosen.unit, minlength=chosen.units)[chosen.unit] - 1)
    names = [STYLES[int(column)] for column in used]
    columns = np.concatenate([styles[:, used], place[:, (place != 0).any(axis=0)], others[:, None]], axis=1)[rows]
    found = fit(np.concatenate([columns, columns * mine], axis=1), (chosen.outcome[rows] + 1) / 2, chosen.prompt[rows])
    for at, name in enumerate(names):
        other = at + columns.shape[1]
        logit, p = with_test(float(found.coefficients[other]), float(found.errors[other]), len(shared), found.clusters)
        rate = _win_rate(logit, float(found.coefficients[at]))
        effects[name] = Effect(name, labeler, SCALES_APART[name], rate, p)
    return list(effects.values())


def _testable(styles: Floats, clusters: int, labeler: str, scales: dict[str, str]) -> tuple[Ints, dict[str, Effect]]:
    """Columns with enough pairs that differ, and an effect with the reason for each of the others."""
    n = len(styles)
    if n < LEAST_PAIRS or clusters < LEAST_CLUSTERS:
        reasons = {name: (too_few(n, clusters), n) for name in STYLES}
    else:
        differing = [int(count) for count in (styles != 0).sum(axis=0)]
        reasons = {
            name: (f"{count} pairs differ in it; {LEAST_DIFFERENT} are needed", count)
            for name, count in zip(STYLES, differing, strict=True)
            if count < LEAST_DIFFERENT
        }
    used = np.array([at for at, name in enumerate(STYLES) if name not in reasons], dtype=np.int64)
    return used, {name: no_effect(name, labeler, scales[name], *why) for name, why in reasons.items()}


def _win_rate(logit: Estimate, base: float) -> Estimate:
    """A coefficient as the change of the win rate from that of `base` logits."""
    values = [
        None if value is None else _rate(base + value) - _rate(base) for value in (logit.value, logit.low, logit.high)
    ]
    return Estimate(values[0], values[1], values[2], logit.n, logit.clusters, logit.reason)


def _rate(value: float) -> float:
    return float(sigmoid(np.array(value)))
