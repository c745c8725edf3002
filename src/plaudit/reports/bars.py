"""Horizontal bars with whiskers, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plaudit.reports.figures import Figure, spoken
from plaudit.reports.markup import Html, join, label, tag
from plaudit.reports.plots import BOTTOM, RIGHT, WIDTH, coordinate, framed
from plaudit.reports.scales import Range, nice_range, nice_ticks, scale, tick_label

TOP, ROW, THICK = 6.0, 36.0, 11.0
INSIDE = Range(8.0, WIDTH - RIGHT - 6)


def bars(title: str, x: str, values: Sequence[tuple[str, Figure]], *, share: bool = False, zero: float = 0.0) -> Html:
    """One bar a name, from `zero` to its value, the interval as a whisker; a `share` is written in percent."""
    shown = [(name, found) for name, found in values if math.isfinite(found.value)]
    if not shown:
        return Html("")
    ends = [end for _, found in shown for end in (found.value, *(found.interval or ()))]
    bounds = nice_range(ends, include=[zero], count=4)
    bottom = TOP + ROW * len(shown)
    height = bottom + BOTTOM
    parts = [_axis(bounds, bottom), *(_bar(i, *named, bounds, share, zero) for i, named in enumerate(shown))]
    middle = coordinate((INSIDE.low + INSIDE.high) / 2)
    parts.append(tag("text", label(x), x=middle, y=coordinate(height - 5), text_anchor="middle", class_="axis-title"))
    described = f"{x}. " + " ".join(f"{name}: {spoken(found, share=share)}." for name, found in shown)
    return framed(title, Html(""), join(parts), described, Html(""), height=height)


def _axis(bounds: Range, bottom: float) -> Html:
    ticks = nice_ticks(bounds, 4)
    parts: list[Html] = []
    for tick in ticks:
        at = coordinate(scale(tick, bounds, INSIDE))
        parts.append(tag("line", x1=at, x2=at, y1=coordinate(TOP), y2=coordinate(bottom), class_="grid"))
        written = label(tick_label(tick, ticks))
        parts.append(tag("text", written, x=at, y=coordinate(bottom + 15), text_anchor="middle"))
    return join(parts)


def _bar(row: int, name: str, found: Figure, bounds: Range, share: bool, zero: float) -> Html:
    top = TOP + ROW * row
    left, right = sorted(scale(end, bounds, INSIDE) for end in (zero, found.value))
    size = coordinate(max(right - left, 1.0))
    y = top + 18
    parts = [tag("rect", x=coordinate(left), y=coordinate(y), width=size, height=THICK, class_="bar tone-0")]
    if found.interval:
        low, high = (coordinate(scale(end, bounds, INSIDE)) for end in found.interval)
        parts.append(tag("path", d=f"M{low} {coordinate(y + THICK / 2)}H{high}", class_="whisker"))
    written = label(f"{name}: {spoken(found._replace(low=math.nan), share=share)}")
    parts.append(tag("text", written, x=coordinate(INSIDE.low), y=coordinate(top + 13), class_="bar-label"))
    return join(parts)
