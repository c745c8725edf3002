"""Figures on pages: an estimate in words, and charts of many of them."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from markupsafe import Markup

from plaudit.feedback.quality.drift import Period
from plaudit.feedback.quality.intervals import Estimate
from plaudit.reports.bars import bars
from plaudit.reports.figures import Figure
from plaudit.reports.plots import Chart, Line, draw
from plaudit.reports.scales import Range

MOST_BARS: Final = 24
_NOT_A_NUMBER: Final = math.nan


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
    """Shares in percent: one bar with its interval each, at most `MOST_BARS`; undefined estimates have none."""
    shown = [(name, _figure(estimate)) for name, estimate in values if estimate.value is not None][:MOST_BARS]
    return Markup(bars(title, scale, shown))  # `bars` escapes all that it is given


def over_time(title: str, periods: Sequence[Period], lines: Sequence[tuple[str, str]]) -> Markup:
    """Shares over periods in percent, each line with its interval as a band. lines: (label, field of `Period`)."""
    series = [
        Line(
            label,
            [(number, _percent(_of(period, name).value)) for number, period in enumerate(periods, start=1)],
            tone=tone,
            band=[(_percent(_of(period, name).low), _percent(_of(period, name).high)) for period in periods],
        )
        for tone, (label, name) in enumerate(lines)
    ]
    chart = Chart(title, "period, the oldest first", "percent", series, y_bounds=Range(0.0, 100.0))
    return Markup(draw(chart))  # `draw` escapes all that it is given


def _of(period: Period, name: str) -> Estimate:
    return getattr(period, name)


def _percent(value: float | None) -> float:
    return _NOT_A_NUMBER if value is None else 100 * value


def _figure(estimate: Estimate) -> Figure:
    return Figure(_percent(estimate.value), _percent(estimate.low), _percent(estimate.high), estimate.n)


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
