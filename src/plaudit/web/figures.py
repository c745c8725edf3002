"""Figures on pages: an estimate in words, and several of them as bars (other plots: `quality_plots`)."""

import math
from collections.abc import Iterable
from typing import Any, Final

from markupsafe import Markup

from plaudit.feedback.quality.intervals import Estimate
from plaudit.reports.bars import bars
from plaudit.reports.figures import Figure

MOST_BARS: Final = 24


def share(estimate: Estimate) -> Markup:
    """A share in percent with its interval, or why there is none."""
    return _written(estimate, 100, 1)


def measure(estimate: Estimate) -> Markup:
    """A figure on its own scale with its interval, or why there is none."""
    return _written(estimate, 1, 2)


def points(estimate: Estimate) -> Markup:
    """A difference of shares in points, with its sign."""
    return _written(estimate, 100, 1, sign="+")


def count(number: int) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{number:,}".replace(",", "\u202f")


def bar_chart(title: str, scale: str, values: Iterable[tuple[str, Estimate]]) -> Markup:
    """Shares: one bar with its interval each, at most `MOST_BARS`; undefined estimates have none."""
    shown = [(name, _figure(estimate)) for name, estimate in values if estimate.value is not None][:MOST_BARS]
    return Markup(bars(title, scale, shown, share=True))  # `bars` escapes all that it is given


def _figure(estimate: Estimate) -> Figure:
    return Figure(_number(estimate.value), _number(estimate.low), _number(estimate.high), estimate.n)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _written(estimate: Estimate, factor: float, digits: int, sign: str = "") -> Markup:
    def number(value: float) -> str:
        return f"{factor * value:{sign}.{digits}f}".replace("-", "−")

    if estimate.value is None:
        return Markup('<span class="none">no figure: {}</span>').format(estimate.reason)
    unit = "\u00a0%" if factor == 100 and not sign else ""
    value = Markup("{}{}").format(number(estimate.value), unit)
    if estimate.low is None or estimate.high is None:
        return value + Markup(' <span class="none">no interval: {}</span>').format(estimate.reason)
    span = Markup(' <span class="interval">{} to {}, n\u00a0=\u00a0{}</span>')
    return value + span.format(number(estimate.low), number(estimate.high), count(estimate.n))


FILTERS: Final[dict[str, Any]] = {"share": share, "measure": measure, "points": points, "count": count}
