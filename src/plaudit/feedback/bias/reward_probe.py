"""What a reward model inherited: the probes of style on its scores, beside those of the people on the same pairs."""

from collections.abc import Sequence

import numpy as np

from plaudit.feedback.bias.effects import EVERYBODY, Effect, mean_effect
from plaudit.feedback.bias.features import differences
from plaudit.feedback.bias.scores import Scores, machine_outcomes
from plaudit.feedback.bias.style import style_effects
from plaudit.feedback.quality.outcomes import Outcomes
from plaudit.feedback.quality.records import Judgment

MODEL = "reward model"
SCALE = "points of longer choices above one half, where the model contradicts people's majority"


def reward_probe(judgments: Sequence[Judgment], table: Outcomes, scores: Scores) -> list[Effect]:
    """Effects of the model's choices, of people's on the same pairs, and of the model's errors. Not adjusted yet.

    A model has no place on the screen and no speed. An effect of its own is no fault where people share it and are
    right; what it does where it contradicts them is the plainer sign.
    """
    machine = machine_outcomes(judgments, table, scores)
    scored = np.isfinite(machine) & (machine != 0)
    chosen, model = table.only(scored), machine[scored].astype(np.int64)
    styles = differences(judgments, chosen)
    nothing = np.zeros((len(chosen), 0))
    _, once = np.unique(chosen.unit, return_index=True)
    strict = chosen.outcome != 0
    people = np.sign(np.bincount(chosen.unit, chosen.outcome, minlength=table.units))[chosen.unit]
    wrong = once[(people[once] == -model[once]) & (styles[once, 0] != 0)]
    longer = np.sign(styles[wrong, 0]) * model[wrong] / 2
    return [
        *style_effects(model[once], styles[once], nothing[once], chosen.prompt[once], MODEL),
        *style_effects(chosen.outcome[strict], styles[strict], nothing[strict], chosen.prompt[strict], EVERYBODY),
        Effect("length of errors", MODEL, SCALE, *mean_effect(longer.astype(np.float64), chosen.prompt[wrong])),
    ]
