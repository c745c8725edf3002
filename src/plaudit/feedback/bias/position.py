"""Position: does the response shown earlier win more often than the order explains?

With orders shuffled for each labeler, the response shown earlier should win half of the strictly judged pairs. Only
pairs whose earlier response has nothing to do with which response it is can show that: where all saw an item in one
order, place and quality are the same thing.
"""

import numpy as np

from plaudit.feedback.bias.effects import EVERYBODY, Effect, mean_effect, no_effect
from plaudit.feedback.quality.outcomes import Floats, Outcomes

PROBE = "position"
SCALE = "points of win rate for the response shown earlier"


def position(table: Outcomes, earlier: Floats) -> list[Effect]:
    """The effect of everybody and of each labeler, as win rate minus one half, on strictly judged pairs.

    earlier: `features.shown_earlier`. Everybody's intervals cluster by prompt, a labeler's by judgment.
    """
    if not (earlier != 0).any():
        return [no_effect(PROBE, EVERYBODY, SCALE, "nobody recorded the order of the responses on the screen")]
    if _always_same(table, earlier):
        reason = "every item was shown in one order only, so position and quality cannot be told apart"
        return [no_effect(PROBE, EVERYBODY, SCALE, reason)]
    strict = (table.outcome != 0) & (earlier != 0)
    chosen = table.only(strict)
    wins = (chosen.outcome * earlier[strict]) / 2
    effects = [Effect(PROBE, EVERYBODY, SCALE, *mean_effect(wins, chosen.prompt))]
    for number, name in enumerate(table.labelers):
        own = chosen.labeler == number
        effects.append(Effect(PROBE, name, SCALE, *mean_effect(wins[own], chosen.judgment[own])))
    return effects


def _always_same(table: Outcomes, earlier: Floats) -> bool:
    """Whether all who judged a pair saw the same response first, wherever several labelers judged it."""
    known = earlier != 0
    seen = np.bincount(table.unit[known], minlength=table.units)
    net = np.bincount(table.unit[known], earlier[known], minlength=table.units)
    if not (seen >= 2).any():
        return bool((earlier[known] > 0).all() or (earlier[known] < 0).all())
    several = seen >= 2
    return bool((np.abs(net[several]) == seen[several]).all())
