"""Agreement of each two labelers who judged enough pairs in common: who sees things alike, who stands apart."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plaudit.feedback.quality.agreement import NO_STRICT, NO_VARIATION, cohen_kappa
from plaudit.feedback.quality.intervals import MIN_PAIRS, Estimate, Floats, Wanted, bootstrap, sums_by
from plaudit.feedback.quality.outcomes import Ints, Outcomes


@dataclass(frozen=True, slots=True)
class LabelerPair:
    """Two labelers on the pairs they both judged. `strict`: as in `agreement.Agreement`; kappa from both sides."""

    first: str
    second: str
    common: int
    strict: Estimate
    kappa: Estimate


def labeler_pairs(table: Outcomes) -> list[LabelerPair]:
    """Every two labelers with at least `MIN_PAIRS` pairs in common, most common pairs first."""
    a, b = common_rows(table)
    number = table.labeler[a] * len(table.labelers) + table.labeler[b]
    codes, counts = np.unique(number, return_counts=True)
    enough = codes[counts >= MIN_PAIRS]
    order = np.argsort(number, kind="stable")
    starts = np.searchsorted(number[order], enough)
    ends = np.searchsorted(number[order], enough, side="right")
    pairs = [
        _labeler_pair(table, a[order[start:end]], b[order[start:end]]) for start, end in zip(starts, ends, strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-pair.common, pair.first, pair.second))


def common_rows(table: Outcomes) -> tuple[Ints, Ints]:
    """Rows of the same unit by two labelers, each two once, the labeler with the smaller number first."""
    order = np.lexsort((table.labeler, table.unit))
    unit = table.unit[order]
    found: list[tuple[Ints, Ints]] = []
    for apart in range(1, len(unit)):
        same = np.flatnonzero(unit[apart:] == unit[:-apart])
        if not len(same):
            break
        found.append((order[same], order[same + apart]))
    if not found:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


def _labeler_pair(table: Outcomes, a: Ints, b: Ints) -> LabelerPair:
    one, other = table.outcome[a], table.outcome[b]
    cells = np.eye(9)[(one + 1) * 3 + other + 1] + np.eye(9)[(1 - one) * 3 + 1 - other]
    found = bootstrap(
        sums_by(table.prompt[a], cells),
        {
            "strict": Wanted(_strict, int(((one != 0) & (other != 0)).sum()), NO_STRICT),
            "kappa": Wanted(_kappa, len(a), NO_VARIATION),
        },
    )
    return LabelerPair(
        table.labelers[table.labeler[a[0]]],
        table.labelers[table.labeler[b[0]]],
        len(a),
        found["strict"],
        found["kappa"],
    )


def _kappa(totals: Floats) -> Floats:
    return cohen_kappa(_square(totals))


def _square(totals: Floats) -> NDArray[np.float64]:
    return totals.reshape(*totals.shape[:-1], 3, 3)


def _strict(totals: Floats) -> Floats:
    cells = _square(totals)
    same = cells[..., 0, 0] + cells[..., 2, 2]
    with np.errstate(invalid="ignore", divide="ignore"):
        return same / (same + cells[..., 0, 2] + cells[..., 2, 0])
