"""Numbers with their intervals, as run folders hold them and as sentences write them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeGuard

from plaudit.reports.markup import Html, join, tag, text
from plaudit.reports.scales import number, percent


class Figure(NamedTuple):
    """A measured number. `low` and `high` bound its 95 % interval; NaN when none was measured."""

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int | None = None

    @property
    def bounded(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def interval(self) -> tuple[float, float] | None:
        return (self.low, self.high) if self.bounded else None


def figure(found: Any) -> Figure | None:
    """A `Figure` from `{"value", "low", "high", "n"}` or a bare number; None from anything else."""
    if is_number(found):
        return Figure(float(found))
    if not isinstance(found, dict) or not is_number(found.get("value")):
        return None
    low, high, n = found.get("low"), found.get("high"), found.get("n")
    return Figure(
        float(found["value"]),
        float(low) if is_number(low) else math.nan,
        float(high) if is_number(high) else math.nan,
        n if isinstance(n, int) else None,
    )


def reading(found: Figure | None, *, share: bool = False) -> Html:
    """`71.2 % (66.0 to 75.9)`: a share in percent, anything else with three significant digits."""
    if found is None:
        return text("–")
    value, interval = _written(found, share)
    return join([text(value), Html(" "), tag("span", text(interval), class_="interval")]) if interval else text(value)


def spoken(found: Figure, *, share: bool = False) -> str:
    """The same in plain text."""
    return " ".join(part for part in _written(found, share) if part)


def _written(found: Figure, share: bool) -> tuple[str, str]:
    value = percent(found.value) if share else number(found.value)
    if not found.bounded:
        return value, ""
    low, high = (percent(e).removesuffix("\u00a0%") if share else number(e) for e in (found.low, found.high))
    return value, f"({low} to {high})"


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value read from JSON is a number; `true` is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
