"""The whole bias audit of a set of judgments: every probe, its p-values adjusted together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from plaudit.feedback.bias.effects import Effect, adjust
from plaudit.feedback.bias.features import differences, shown_earlier
from plaudit.feedback.bias.groups import SMALLEST, GroupResult, groups
from plaudit.feedback.bias.position import position
from plaudit.feedback.bias.reward_probe import reward_probe
from plaudit.feedback.bias.scores import Scores, machine_outcomes
from plaudit.feedback.bias.speed import speed
from plaudit.feedback.bias.style import style
from plaudit.feedback.bias.suggestion import suggestion
from plaudit.feedback.quality.outcomes import Outcomes
from plaudit.feedback.quality.records import Judgment


@dataclass(frozen=True, slots=True)
class BiasAudit:
    """Effects of labelers, of groups, and of a reward model (empty without scores). Holm's adjustment: one each."""

    effects: tuple[Effect, ...]
    groups: tuple[GroupResult, ...]
    reward: tuple[Effect, ...]


def audit(
    judgments: Sequence[Judgment],
    table: Outcomes,
    *,
    suggestions: Scores | None = None,
    reward: Scores | None = None,
    answers: Mapping[str, Mapping[str, str]] | None = None,
    smallest_group: int = SMALLEST,
) -> BiasAudit:
    """All probes of the judgments (each labeler's first of each item) and their pairs.

    suggestions: scores of a machine whose ranking the labelers saw, or may have used.
    reward:      scores of a reward model to probe in the same way.
    answers:     question -> labeler -> option, of consenting labelers only; groups of fewer than `smallest_group`
                 are not shown.
    """
    earlier = shown_earlier(judgments, table)
    effects = position(table, earlier) + style(table, differences(judgments, table), earlier)
    effects += speed(judgments, table)
    if suggestions is not None:
        effects += suggestion(table, machine_outcomes(judgments, table, suggestions))
    found = [groups(table, question, given, smallest=smallest_group) for question, given in (answers or {}).items()]
    adjusted = adjust([result.effect for result in found])
    return BiasAudit(
        effects=tuple(adjust(effects)),
        groups=tuple(replace(result, effect=effect) for result, effect in zip(found, adjusted, strict=True)),
        reward=tuple(adjust(reward_probe(judgments, table, reward))) if reward is not None else (),
    )
