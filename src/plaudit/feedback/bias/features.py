"""What of a response may sway a judgment without being quality: length, lists, headers, bold."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from plaudit.feedback.quality.outcomes import Floats, Outcomes
from plaudit.feedback.quality.records import Judgment

_LIST = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s+\S", re.MULTILINE)
_HEADER = re.compile(r"^#{1,6}\s+\S", re.MULTILINE)
_BOLD = re.compile(r"\*\*\S[^*\n]*\*\*|__\S[^_\n]*__")


class Features(NamedTuple):
    """Of one response; the marks are 1 where there is any."""

    length: float
    """log2 of the number of words (at least one)."""
    lists: float
    headers: float
    bold: float


STYLES = Features._fields


def features(response: str) -> Features:
    """The features of a text; markdown marks as people see them rendered."""
    return Features(
        math.log2(max(1, len(response.split()))),
        float(_LIST.search(response) is not None),
        float(_HEADER.search(response) is not None),
        float(_BOLD.search(response) is not None),
    )


def differences(judgments: Sequence[Judgment], table: Outcomes) -> Floats:
    """(n, 4): features of the first response minus those of the second, for each judged pair."""
    known: dict[str, int] = {}
    numbers = [[known.setdefault(text, len(known)) for text in judgment.responses] for judgment in judgments]
    values = np.array([features(text) for text in known], dtype=np.float64).reshape(-1, len(STYLES))
    padded = _padded(numbers)
    return values[padded[table.judgment, table.first]] - values[padded[table.judgment, table.second]]


def shown_earlier(judgments: Sequence[Judgment], table: Outcomes) -> Floats:
    """(n,): 1 where the first response was shown before the second, -1 after it, 0 where the order is unknown."""
    padded = _padded([list(judgment.order or [0] * len(judgment.responses)) for judgment in judgments])
    places = padded[table.judgment, table.second] - padded[table.judgment, table.first]
    return np.sign(places).astype(np.float64)


def _padded(rows: Sequence[Sequence[int]]) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    widest = max((len(row) for row in rows), default=0)
    return np.array([[*row, *[0] * (widest - len(row))] for row in rows], dtype=np.int64).reshape(len(rows), widest)
