"""Group effects: do labelers of one group agree more with each other than with those of other groups?

Only from people who chose to answer and agreed to this use. A group of fewer than `smallest` people is not shown; nor
is the next smallest where the hidden ones could else be worked out by subtraction.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from plaudit.core.seeding import derive
from plaudit.feedback.bias.effects import EVERYBODY, Effect, no_effect
from plaudit.feedback.quality.agreement import agrees_with_others
from plaudit.feedback.quality.intervals import Estimate, Floats, Wanted, bootstrap, sums_by
from plaudit.feedback.quality.labeler_pairs import common_rows
from plaudit.feedback.quality.labelers import proportion
from plaudit.feedback.quality.outcomes import Ints, Outcomes

SMALLEST = 5
PERMUTATIONS = 2000
SCALE = "points of strict agreement within groups above that between groups"


@dataclass(frozen=True, slots=True)
class Group:
    """A group large enough to be shown."""

    option: str
    labelers: int
    majority: Estimate
    """Strict preferences that are those of the majority of all others."""


@dataclass(frozen=True, slots=True)
class GroupResult:
    """One question; `suppressed` says whether groups were left out."""

    question: str
    groups: tuple[Group, ...]
    suppressed: bool
    effect: Effect


def groups(
    table: Outcomes, question: str, answers: Mapping[str, str], *, smallest: int = SMALLEST, seed: int = 0
) -> GroupResult:
    """The result of one question. `answers`: labeler -> option, of consenting labelers only."""
    present = {name: answers[name] for name in table.labelers if name in answers}
    counts = Counter(present.values())
    shown = shown_groups(counts, smallest)
    suppressed = len(shown) < len(counts)
    probe = f"group: {question}"
    if len(shown) < 2:
        reason = f"fewer than two groups have the {smallest} people that a group needs to be shown"
        return GroupResult(question, (), suppressed, no_effect(probe, EVERYBODY, SCALE, reason))
    member = np.array([shown.index(present[name]) if present.get(name) in shown else -1 for name in table.labelers])
    agrees = agrees_with_others(table)
    found: list[Group] = []
    for number, option in enumerate(shown):
        rows = np.flatnonzero((member[table.labeler] == number) & (agrees >= 0))
        share = proportion(agrees[rows].astype(np.float64), table.prompt[rows], "strict pairs with a majority")
        found.append(Group(option, counts[option], share))
    estimate, p = _within_and_between(table, member, seed)
    return GroupResult(question, tuple(found), suppressed, Effect(probe, EVERYBODY, SCALE, estimate, p))


def shown_groups(counts: Mapping[str, int], smallest: int = SMALLEST) -> list[str]:
    """Options that may be shown, sorted: those hidden are none, or have `smallest` people together."""
    largest = sorted(counts, key=lambda option: (-counts[option], option))
    shown = [option for option in largest if counts[option] >= smallest]
    hidden = [option for option in largest if counts[option] < smallest]
    while shown and hidden and sum(counts[option] for option in hidden) < smallest:
        hidden.append(shown.pop())
    return sorted(shown)


def _within_and_between(table: Outcomes, member: Ints, seed: int) -> tuple[Estimate, float | None]:
    a, b = common_rows(table)
    usable = (table.outcome[a] != 0) & (table.outcome[b] != 0)
    usable &= (member[table.labeler[a]] >= 0) & (member[table.labeler[b]] >= 0)
    a, b = a[usable], b[usable]
    one, other = table.labeler[a], table.labeler[b]
    same = (table.outcome[a] == table.outcome[b]).astype(np.float64)
    within = (member[one] == member[other]).astype(np.float64)
    columns = np.stack([same * within, within, same * (1 - within), 1 - within], axis=1)
    wanted = Wanted(_gap, len(same), "no pair was judged strictly by two labelers of one group and by two of several")
    estimate = bootstrap(sums_by(table.prompt[a], columns), {"gap": wanted}, seed=seed)["gap"]
    if estimate.value is None:
        return estimate, None
    return estimate, _permutation_p(one, other, same, member, len(table.labelers), seed)


def _gap(totals: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return totals[..., 0] / totals[..., 1] - totals[..., 2] / totals[..., 3]


def _permutation_p(one: Ints, other: Ints, same: Floats, member: Ints, labelers: int, seed: int) -> float:
    """Two-sided, by exchanging the answers among the labelers: the labeler is what was sampled, not the judgment."""
    size = labelers * labelers
    agreed = np.bincount(one * labelers + other, same, minlength=size).reshape(labelers, labelers)
    judged = np.bincount(one * labelers + other, minlength=size).reshape(labelers, labelers).astype(np.float64)
    asked = np.flatnonzero(member >= 0)
    agreed, judged, own = agreed[np.ix_(asked, asked)], judged[np.ix_(asked, asked)], member[asked]
    generator = np.random.default_rng(derive(seed, "groups"))

    def gap(of: Ints) -> float:
        within = of[:, None] == of[None, :]
        totals = [agreed[within].sum(), judged[within].sum(), agreed[~within].sum(), judged[~within].sum()]
        return abs(float(np.nan_to_num(_gap(np.array(totals)))))

    observed = gap(own) - 1e-12
    extreme = sum(gap(generator.permutation(own)) >= observed for _ in range(PERMUTATIONS))
    return (1 + extreme) / (1 + PERMUTATIONS)
