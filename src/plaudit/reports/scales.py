"""Axes: round tick values, straight-line scales and number formats."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple


class Range(NamedTuple):
    low: float
    high: float

    @property
    def span(self) -> float:
        return self.high - self.low


def nice_ticks(bounds: Range, count: int = 5) -> list[float]:
    """About `count` round values (1, 2 or 5 times a power of ten apart) inside `bounds`."""
    step = _nice_step(bounds.span / max(count, 1))
    first = math.ceil(bounds.low / step - 1e-9)
    last = math.floor(bounds.high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def nice_range(values: Iterable[float], *, include: Iterable[float] = (), count: int = 5) -> Range:
    """The values' range widened to round tick values; a single value gets room on both sides."""
    points = [v for v in (*values, *include) if math.isfinite(v)]
    if not points:
        return Range(0.0, 1.0)
    low, high = min(points), max(points)
    if high - low < 1e-12 * max(1.0, abs(high)):
        pad = abs(high) * 0.1
        low, high = (low - pad, high + pad) if pad else (0.0, 1.0)
    step = _nice_step((high - low) / max(count, 1))
    return Range(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step)


def _nice_step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw * (1 - 1e-9))


def scale(value: float, source: Range, target: Range) -> float:
    return target.low + (value - source.low) / source.span * target.span


def number(value: float) -> str:
    """Three significant digits, thousands with commas, a true minus sign; `not a number` is said in words."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    size = abs(value)
    if value == 0:
        written = "0"
    elif size >= 1000:
        written = f"{value:,.0f}"
    elif size < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        written = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    else:
        digits = max(0, 2 - math.floor(math.log10(size)))
        written = f"{value:.{digits}f}"
    return written.replace("-", "−")


def tick_label(value: float, ticks: list[float]) -> str:
    """A tick written with just the digits its neighbours need."""
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else abs(value) or 1.0
    if abs(value) < step * 1e-6:
        return "0"
    if max(abs(t) for t in ticks) >= 1e6 or step < 1e-4:
        return number(value)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}".replace("-", "−")


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}\u00a0%".replace("-", "−") if math.isfinite(value) else number(value)


def duration(seconds: float) -> str:
    """Seconds as people say them: `0.42 s`, `38 s`, `12 min 5 s`, `3 h 20 min`."""
    if seconds < 10:
        return f"{number(seconds)} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
