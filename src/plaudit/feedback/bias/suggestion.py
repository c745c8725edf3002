"""Agreement with a machine's suggestion: who follows the machine more than the others do on the same pairs?"""

import numpy as np

from plaudit.feedback.bias.effects import EVERYBODY, Effect, mean_effect, no_effect
from plaudit.feedback.quality.outcomes import Floats, Outcomes

PROBE = "suggestion"
SCALE = "points of agreement with the machine above that of the others on the same pairs"
SCALE_ALL = "points of agreement with the machine above one half"


def suggestion(table: Outcomes, machine: Floats) -> list[Effect]:
    """The effect of everybody and of each labeler on pairs that both they and the machine rank strictly.

    machine: `scores.machine_outcomes`. Everybody's agreement says that people and machine see things alike, not who
    follows whom. A labeler's is compared with the mean of the others' single judgments, not with their majority: a
    majority is more often right than one person and would agree more with a good machine.
    """
    strict = (table.outcome != 0) & np.isfinite(machine) & (machine != 0)
    if not strict.any():
        return [no_effect(PROBE, EVERYBODY, SCALE_ALL, "no judged pair has scores")]
    chosen = table.only(strict)
    agrees = (chosen.outcome == machine[strict]).astype(np.float64)
    judged = np.bincount(chosen.unit, minlength=table.units)[chosen.unit] - 1
    others = np.bincount(chosen.unit, agrees, minlength=table.units)[chosen.unit] - agrees
    shared = judged > 0
    excess = agrees - others / np.maximum(judged, 1)
    effects = [Effect(PROBE, EVERYBODY, SCALE_ALL, *mean_effect(agrees - 0.5, chosen.prompt))]
    for number, name in enumerate(table.labelers):
        own = (chosen.labeler == number) & shared
        effects.append(Effect(PROBE, name, SCALE, *mean_effect(excess[own], chosen.prompt[own])))
    return effects
