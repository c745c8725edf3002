"""How far labelers agree: percentages, chance-corrected coefficients and rank correlations, with intervals.

The coefficients are functions of sums over units, so that one bootstrap gives the intervals of all of them. Each takes
totals with any leading axes (resamples) and gives not a number where it is undefined: no variation, nobody in common.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from plaudit.core.records import Prompt
from plaudit.feedback.quality.intervals import Estimate, Wanted, bootstrap, share, sums_by
from plaudit.feedback.quality.outcomes import Outcomes
from plaudit.feedback.quality.records import Judgment

Floats = NDArray[np.float64]
Level = Literal["nominal", "ordinal"]

NO_VARIATION = "all judgments say the same, so chance cannot be told from agreement"
NO_OVERLAP = "no pair was judged by two labelers"
NO_STRICT = "no pair was judged strictly by two labelers"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of a set of judgments; every figure has its interval and n.

    strict:          share of agreeing judgments of a pair that both labelers ranked strictly: the figure that
                     InstructGPT reports for its labelers (Ouyang et al. 2022, 3.4), as far as the paper states it.
    with_ties:       the same over all pairs, a tie being an answer like the others.
    half_credit:     the same, a tie against a preference being half an agreement.
    alpha_nominal, alpha_ordinal: Krippendorff's alpha of outcomes told from both sides.
    fleiss_kappa:    with two or more labelers a pair, from both sides.
    tau_b:           mean of Kendall's tau-b over items and pairs of labelers.
    kendall_w:       mean of Kendall's W over items with three or more labelers; 1 / labelers is expected by chance.
    ceiling:         how often one labeler's strict preference is that of the majority of the others: what a reward
                     model could reach on these pairs if it were as good as one more labeler.
    tie_rate:        share of ties among judged pairs.
    """

    strict: Estimate
    with_ties: Estimate
    half_credit: Estimate
    alpha_nominal: Estimate
    alpha_ordinal: Estimate
    fleiss_kappa: Estimate
    tau_b: Estimate
    kendall_w: Estimate
    ceiling: Estimate
    tie_rate: Estimate


def agreement(judgments: Sequence[Judgment], table: Outcomes) -> Agreement:
    """All figures of the judgments, one of each labeler and item (`outcomes.first_judgments`), and their outcomes."""
    counts = table.unit_counts()
    shared = counts.sum(axis=1) >= 2
    counts, prompts = counts[shared], table.unit_prompts()[shared]
    pairs = _pair_columns(counts)
    both = coincidences(counts) + coincidences(counts)[:, ::-1, ::-1]
    columns = [pairs, both.reshape(-1, 9), _fleiss_columns(counts) + _fleiss_columns(counts[:, ::-1])]
    trials = pairs.sum(axis=0).astype(int)
    n_strict, n_all = int(trials[1]), int(trials[4])
    found = bootstrap(
        sums_by(prompts, np.concatenate(columns, axis=1)),
        {
            "strict": Wanted(share(0, 1), n_strict, NO_STRICT),
            "with_ties": Wanted(share(2, 4), n_all, NO_OVERLAP),
            "half_credit": Wanted(share(3, 4), n_all, NO_OVERLAP),
            "alpha_nominal": Wanted(_alpha_nominal, n_all, NO_VARIATION),
            "alpha_ordinal": Wanted(_alpha_ordinal, n_all, NO_VARIATION),
            "fleiss_kappa": Wanted(_fleiss, n_all, NO_VARIATION),
        },
    )
    tied = np.stack([table.outcome == 0, np.ones(len(table))], axis=1).astype(np.float64)
    return Agreement(
        **found,
        **_rank_correlations(judgments),
        ceiling=ceiling(table),
        tie_rate=bootstrap(sums_by(table.prompt, tied), {"tie_rate": Wanted(share(0, 1), len(table), "no pairs")})[
            "tie_rate"
        ],
    )


def ceiling(table: Outcomes) -> Estimate:
    """How often a strict preference is that of the majority of the other labelers, where these have one."""
    agrees = agrees_with_others(table)
    decided = agrees >= 0
    columns = np.stack([agrees[decided] == 1, np.ones(decided.sum())], axis=1).astype(np.float64)
    wanted = Wanted(share(0, 1), int(decided.sum()), "no strict judgment meets a majority of others")
    return bootstrap(sums_by(table.prompt[decided], columns), {"ceiling": wanted})["ceiling"]


def others_vote(table: Outcomes) -> NDArray[np.int64]:
    """(n,): votes for the first response minus votes for the second, of everybody but the row's own labeler."""
    net = np.bincount(table.unit, table.outcome, minlength=table.units).astype(np.int64)
    return net[table.unit] - table.outcome


def agrees_with_others(table: Outcomes) -> NDArray[np.int64]:
    """(n,): 1 and 0 for a strict judgment with and against the others' majority; -1 where there is no comparison."""
    vote = np.sign(others_vote(table))
    return np.where((vote == 0) | (table.outcome == 0), -1, vote == table.outcome).astype(np.int64)


def coincidences(counts: Floats) -> Floats:
    """(U, V, V) coincidence matrices of units with V values. Krippendorff 2011, equation 2; needs two values a unit."""
    m = counts.sum(axis=1)
    ordered = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(counts.shape[1])
    return ordered / np.maximum(m - 1, 1)[:, None, None]


def alpha(coincidence: Floats, level: Level) -> Floats:
    """Krippendorff's alpha of summed coincidence matrices (…, V, V), the V values in their order."""
    marginal = coincidence.sum(axis=-1)
    total = marginal.sum(axis=-1)
    values = marginal.shape[-1]
    if level == "nominal":
        distance = np.broadcast_to(1.0 - np.eye(values), coincidence.shape)
    else:
        # Squared number of values between two, their own counted half: differences of cumulated mid-ranks.
        middle = np.cumsum(marginal, axis=-1) - marginal / 2
        distance = (middle[..., :, None] - middle[..., None, :]) ** 2
    observed = (coincidence * distance).sum(axis=(-2, -1))
    expected = (marginal[..., :, None] * marginal[..., None, :] * distance).sum(axis=(-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, 1 - (total - 1) * observed / expected, np.nan)


def fleiss_kappa(totals: Floats) -> Floats:
    """Fleiss' kappa of totals (…, 2 + V): summed agreement of units, number of units, counts of the V values.

    With unequal numbers of labelers a unit's agreement counts once, whoever many gave it (Fleiss 1971 has them equal).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = totals[..., 0] / totals[..., 1]
        shares = totals[..., 2:] / totals[..., 2:].sum(axis=-1, keepdims=True)
        expected = (shares**2).sum(axis=-1)
        return np.where(expected < 1 - 1e-12, (observed - expected) / (1 - expected), np.nan)


def cohen_kappa(table: Floats) -> Floats:
    """Cohen's kappa of contingency tables (…, V, V): rows one labeler's values, columns the other's."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = table / table.sum(axis=(-2, -1), keepdims=True)
        observed = np.trace(shares, axis1=-2, axis2=-1)
        expected = (shares.sum(axis=-1) * shares.sum(axis=-2)).sum(axis=-1)
        return np.where(expected < 1 - 1e-12, (observed - expected) / (1 - expected), np.nan)


def krippendorff_alpha(counts: Floats, level: Level) -> float:
    """Alpha of (U, V) counts of values; units with fewer than two values do not count. NaN where undefined."""
    return float(alpha(coincidences(counts[counts.sum(axis=1) >= 2]).sum(axis=0), level))


def fleiss(counts: Floats) -> float:
    """Fleiss' kappa of (U, V) counts of values; units with fewer than two values do not count. NaN where undefined."""
    return float(fleiss_kappa(_fleiss_columns(counts[counts.sum(axis=1) >= 2]).sum(axis=0)))


def tau_b(outcomes: Floats) -> Floats:
    """(…, m, m): Kendall's tau-b between m labelers, from their outcomes (…, m, P) of P pairs; NaN next to all ties."""
    products = outcomes @ np.swapaxes(outcomes, -1, -2)
    strict = (outcomes**2).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return products / np.sqrt(strict[..., :, None] * strict[..., None, :])


def kendall_w(ranks: Floats) -> Floats:
    """(…,): Kendall's W with tie correction, of the ranks (…, m, K) that m labelers gave K responses. Kendall 1948."""
    below = (ranks[..., :, None] > ranks[..., None, :]).sum(axis=-1)
    same = (ranks[..., :, None] == ranks[..., None, :]).sum(axis=-1)
    middle = below + (same + 1) / 2
    m, size = ranks.shape[-2], ranks.shape[-1]
    sums = middle.sum(axis=-2)
    ties = (same.astype(np.float64) ** 2 - 1).sum(axis=(-2, -1))
    spread = 12 * (sums**2).sum(axis=-1) - 3 * m**2 * size * (size + 1) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        full = m**2 * size * (size**2 - 1) - m * ties
        return np.where(full > 0, spread / full, np.nan)


def _alpha_nominal(totals: Floats) -> Floats:
    return alpha(_square(totals[..., 5:14]), "nominal")


def _alpha_ordinal(totals: Floats) -> Floats:
    return alpha(_square(totals[..., 5:14]), "ordinal")


def _fleiss(totals: Floats) -> Floats:
    return fleiss_kappa(totals[..., 14:])


def _square(totals: Floats) -> Floats:
    return totals.reshape(*totals.shape[:-1], 3, 3)


def _pair_columns(counts: Floats) -> Floats:
    """(U, 5), over each two labelers of a unit: strict agreements, both strict, agreements, with half credit, all."""
    second, tie, first = counts.T
    strict_same = _two_of(second) + _two_of(first)
    same = strict_same + _two_of(tie)
    half = same + tie * (first + second) / 2
    return np.stack([strict_same, _two_of(first + second), same, half, _two_of(counts.sum(axis=1))], axis=1)


def _two_of(count: Floats) -> Floats:
    return count * (count - 1) / 2


def _fleiss_columns(counts: Floats) -> Floats:
    m = counts.sum(axis=1)
    agreeing = ((counts**2).sum(axis=1) - m) / (m * (m - 1))
    return np.column_stack([agreeing, np.ones(len(counts)), counts])


def _rank_correlations(judgments: Sequence[Judgment]) -> dict[str, Estimate]:
    taus, ws = [np.empty((0, 3))], [np.empty((0, 3))]  # columns: prompt, sum, how many
    for prompts, ranks, different in _stacked(judgments):
        m, size = ranks.shape[1:]
        i, j = np.triu_indices(size, 1)
        signs = np.sign(ranks[:, :, j] - ranks[:, :, i]) * different[:, None, :]
        a, b = np.triu_indices(m, 1)
        found = tau_b(signs)[:, a, b]
        columns = [prompts, np.nansum(found, axis=1), np.isfinite(found).sum(axis=1)]
        taus.append(np.column_stack(columns).astype(np.float64))
        if m >= 3:
            w = kendall_w(ranks)
            ws.append(np.column_stack([prompts, np.nan_to_num(w), np.isfinite(w)]).astype(np.float64))
    return {
        "tau_b": _mean(np.concatenate(taus), "no two labelers ranked the same item without tying everything"),
        "kendall_w": _mean(np.concatenate(ws), "no item was ranked by three labelers without tying everything"),
    }


def _mean(rows: Floats, why: str) -> Estimate:
    rows = rows[rows[:, 2] > 0]
    wanted = Wanted(share(0, 1), int(rows[:, 2].sum()), why)
    return bootstrap(sums_by(rows[:, 0].astype(np.int64), rows[:, 1:]), {"mean": wanted})["mean"]


def _stacked(judgments: Sequence[Judgment]) -> list[tuple[NDArray[np.int64], Floats, Floats]]:
    """Items with equally many labelers and responses: prompts (I,), ranks (I, m, K), whether texts differ (I, P)."""
    items: defaultdict[tuple[str, str | None], list[Judgment]] = defaultdict(list)
    prompt_number: dict[Prompt, int] = {}
    for judgment in judgments:
        items[judgment.item, judgment.criterion].append(judgment)
    shapes: defaultdict[tuple[int, int], list[list[Judgment]]] = defaultdict(list)
    for group in items.values():
        if len(group) >= 2:
            shapes[len(group), len(group[0].responses)].append(group)
    stacked: list[tuple[NDArray[np.int64], Floats, Floats]] = []
    for (_, size), groups in sorted(shapes.items()):
        places = [(i, j) for i in range(size) for j in range(i + 1, size)]
        texts = [group[0].responses for group in groups]
        stacked.append(
            (
                np.array([prompt_number.setdefault(group[0].prompt, len(prompt_number)) for group in groups]),
                np.array([[judgment.ranks for judgment in group] for group in groups], dtype=np.float64),
                np.array([[text[i] != text[j] for i, j in places] for text in texts], dtype=np.float64),
            )
        )
    return stacked
