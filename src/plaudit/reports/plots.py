"""Charts as inline SVG: lines with interval bands, points, and the frame around them.

A chart is 360 units wide and shown at about that many pixels, so its labels stay readable on a phone. Colours and fonts
come from page.css by class, which is how the same drawing serves light, dark and print. Series differ by dash and
marker as well as by colour. Values that are not finite leave a gap; the note says how many there were.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from plaudit.reports.markup import Html, join, label, tag
from plaudit.reports.scales import Range, nice_range, nice_ticks, number, scale, tick_label

WIDTH, HEIGHT = 360.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 26.0, 38.0
MAX_POINTS = 80

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve; `band` holds (low, high) for each point; `tone` picks colour and dash (0 to 4)."""

    label: str
    points: Sequence[Point]
    tone: int = 0
    band: Sequence[tuple[float, float]] | None = None
    smooth: bool = False  # a fitted curve: no markers


@dataclass(frozen=True, slots=True)
class Dots:
    """Separate measurements; `interval` holds (low, high) for each point, drawn as a whisker."""

    label: str
    points: Sequence[Point]
    tone: int = 0
    interval: Sequence[tuple[float, float]] | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A named straight line: at an x (`vertical`) or at a y."""

    label: str
    at: float
    vertical: bool = True


@dataclass(frozen=True, slots=True)
class Chart:
    """What `draw` draws. `x_bounds` and `y_bounds` fix a range; otherwise it follows the data in round numbers."""

    title: str
    x: str
    y: str
    series: Sequence[Line | Dots]
    marks: Sequence[Mark] = ()
    x_bounds: Range | None = None
    y_bounds: Range | None = None
    diagonal: bool = False
    note: str = ""
    include_y: Sequence[float] = field(default=())


def draw(chart: Chart) -> Html:
    """A figure: title, legend, drawing with a text alternative, note. Empty when no series has a finite point."""
    series = [_thinned(s) for s in chart.series]
    finite = [p for s in chart.series for p in s.points if _finite(p)]
    if not finite:
        return Html("")
    x_bounds = chart.x_bounds or _x_range(series, chart.marks)
    y_bounds = chart.y_bounds or nice_range(
        _heights(series), include=[*chart.include_y, *(m.at for m in chart.marks if not m.vertical)]
    )
    frame = _Frame(x_bounds, y_bounds)
    whole = all(x == int(x) for x, _ in finite)
    layers = [
        _axes(frame, chart.x, chart.y, whole=whole),
        *(
            [frame.path([(x_bounds.low, x_bounds.low), (x_bounds.high, x_bounds.high)], "diagonal")]
            if chart.diagonal
            else []
        ),
        *(_mark(frame, mark) for mark in chart.marks),
        *(_band(frame, s) for s in series if isinstance(s, Line) and s.band),
        *(_series(frame, s) for s in series),
    ]
    return framed(chart.title, legend(chart.series), join(layers), describe(chart), _note(chart))


def describe(chart: Chart) -> str:
    """The text alternative: for each series where it starts, ends, and its extremes."""
    sentences = [f"{chart.y} against {chart.x}."]
    for s in chart.series:
        points = [p for p in s.points if _finite(p)]
        if not points:
            continue
        first, last = points[0], points[-1]
        low, high = min(points, key=lambda p: p[1]), max(points, key=lambda p: p[1])
        sentences.append(
            f"{s.label}: {len(points)} points, from {number(first[1])} at {number(first[0])} to {number(last[1])} at "
            f"{number(last[0])}; lowest {number(low[1])} at {number(low[0])}, "
            f"highest {number(high[1])} at {number(high[0])}."
        )
    sentences.extend(f"{m.label} at {number(m.at)}." for m in chart.marks)
    return " ".join(sentences)


def legend(series: Sequence[Line | Dots]) -> Html:
    if len(series) < 2:
        return Html("")
    items = []
    for s in series:
        if isinstance(s, Line):
            sample = tag("path", d="M1 6H23", class_=f"line tone-{s.tone}{' smooth' if s.smooth else ''}")
        else:
            sample = _marker(12, 6, s.tone)
        swatch = tag("svg", sample, viewBox="0 0 24 12", width=24, height=12, aria_hidden="true")
        items.append(tag("span", swatch, label(s.label)))
    return tag("div", *items, class_="legend")


class _Frame:
    """The plotting area: data to drawing units."""

    def __init__(self, x_bounds: Range, y_bounds: Range) -> None:
        self.x_bounds, self.y_bounds = x_bounds, y_bounds

    def x(self, value: float) -> float:
        return scale(value, self.x_bounds, Range(LEFT, WIDTH - RIGHT))

    def y(self, value: float) -> float:
        return scale(min(max(value, self.y_bounds.low), self.y_bounds.high), self.y_bounds, Range(HEIGHT - BOTTOM, TOP))

    def path(self, points: Iterable[Point], class_: str) -> Html:
        """A polyline that is interrupted where a value is not finite."""
        steps, pen_up = [], True
        for point in points:
            if not _finite(point):
                pen_up = True
                continue
            steps.append(f"{'M' if pen_up else 'L'}{coordinate(self.x(point[0]))} {coordinate(self.y(point[1]))}")
            pen_up = False
        return tag("path", d="".join(steps), class_=class_)


def _axes(frame: _Frame, x_title: str, y_title: str, *, whole: bool) -> Html:
    parts: list[Html] = []
    y_ticks, x_ticks = nice_ticks(frame.y_bounds, 5), nice_ticks(frame.x_bounds, 5)
    if whole:  # there is no step 2.5
        x_ticks = [t for t in x_ticks if abs(t - round(t)) < 1e-9]
    for t in y_ticks:
        y = coordinate(frame.y(t))
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", label(tick_label(t, y_ticks)), x=LEFT - 6, y=y, dy="0.35em", text_anchor="end"))
    for t in x_ticks:
        x = coordinate(frame.x(t))
        parts.append(tag("line", x1=x, x2=x, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4, class_="axis"))
        parts.append(tag("text", label(tick_label(t, x_ticks)), x=x, y=HEIGHT - BOTTOM + 16, text_anchor="middle"))
    parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM, class_="axis"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(tag("text", label(x_title), x=middle, y=HEIGHT - 4, text_anchor="middle", class_="axis-title"))
    # Above the axis and level: turned on its side it would run into wide tick labels.
    parts.append(tag("text", label(y_title), x=2, y=12, class_="axis-title"))
    return join(parts)


def _mark(frame: _Frame, mark: Mark) -> Html:
    if mark.vertical:
        if not frame.x_bounds.low <= mark.at <= frame.x_bounds.high:
            return Html("")
        x = frame.x(mark.at)
        left = x > (LEFT + WIDTH) / 2  # the label goes to the roomier side
        anchor, shift = ("end", -4) if left else ("start", 4)
        rule = tag("line", x1=coordinate(x), x2=coordinate(x), y1=TOP, y2=HEIGHT - BOTTOM, class_="mark")
        return join(
            [
                rule,
                tag(
                    "text",
                    label(mark.label),
                    x=coordinate(x + shift),
                    y=TOP + 9,
                    text_anchor=anchor,
                    class_="mark-label",
                ),
            ]
        )
    y = frame.y(mark.at)
    rule = tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=coordinate(y), y2=coordinate(y), class_="mark")
    above = y - 4 if y > TOP + 16 else y + 12
    return join(
        [
            rule,
            tag(
                "text",
                label(mark.label),
                x=WIDTH - RIGHT - 2,
                y=coordinate(above),
                text_anchor="end",
                class_="mark-label",
            ),
        ]
    )


def _series(frame: _Frame, s: Line | Dots) -> Html:
    if isinstance(s, Line):
        curve = frame.path(s.points, f"line tone-{s.tone}{' smooth' if s.smooth else ''}")
        finite = [p for p in s.points if _finite(p)]
        if s.smooth or len(finite) > 16:
            return curve
        return join([curve, *(_marker(frame.x(x), frame.y(y), s.tone) for x, y in finite)])
    parts: list[Html] = []
    for i, (x, y) in enumerate(s.points):
        if not _finite((x, y)):
            continue
        if s.interval and all(map(math.isfinite, s.interval[i])):
            low, high = s.interval[i]
            parts.append(
                tag(
                    "path",
                    d=f"M{coordinate(frame.x(x))} {coordinate(frame.y(low))}V{coordinate(frame.y(high))}",
                    class_=f"whisker tone-{s.tone}",
                )
            )
        parts.append(_marker(frame.x(x), frame.y(y), s.tone))
    return join(parts)


def _band(frame: _Frame, s: Line) -> Html:
    assert s.band is not None
    edges = [
        (x, low, high)
        for (x, _), (low, high) in zip(s.points, s.band, strict=True)
        if all(map(math.isfinite, (x, low, high)))
    ]
    if len(edges) < 2:
        return Html("")
    there = "L".join(f"{coordinate(frame.x(x))} {coordinate(frame.y(high))}" for x, _, high in edges)
    back = "L".join(f"{coordinate(frame.x(x))} {coordinate(frame.y(low))}" for x, low, _ in reversed(edges))
    return tag("path", d=f"M{there}L{back}Z", class_=f"band tone-{s.tone}")


def _marker(x: float, y: float, tone: int) -> Html:
    shapes = {
        0: lambda: tag("circle", cx=coordinate(x), cy=coordinate(y), r=2.6, class_="marker tone-0"),
        1: lambda: tag("rect", x=coordinate(x - 2.5), y=coordinate(y - 2.5), width=5, height=5, class_="marker tone-1"),
        2: lambda: tag(
            "path", d=f"M{coordinate(x)} {coordinate(y - 3.4)}l3.4 3.4l-3.4 3.4l-3.4 -3.4Z", class_="marker tone-2"
        ),
        3: lambda: tag("path", d=f"M{coordinate(x)} {coordinate(y - 3.2)}l3.2 5.6h-6.4Z", class_="marker tone-3"),
    }
    return shapes.get(
        tone, lambda: tag("circle", cx=coordinate(x), cy=coordinate(y), r=2.6, class_=f"marker hollow tone-{tone}")
    )()


def _bin_size(s: Line | Dots) -> int:
    """How many points of a long curve make one; 1 for short curves, fits and those with an interval of their own."""
    if isinstance(s, Dots) or s.smooth or s.band is not None:
        return 1
    return max(1, math.ceil(len(s.points) / MAX_POINTS))


def _thinned(s: Line | Dots) -> Line | Dots:
    """A long curve as bin means with a band from the smallest to the largest value of each bin."""
    size = _bin_size(s)
    if size == 1:
        return s
    points: list[Point] = []
    band: list[tuple[float, float]] = []
    for start in range(0, len(s.points), size):
        bin_ = [p for p in s.points[start : start + size] if _finite(p)]
        if bin_:
            heights = [y for _, y in bin_]
            points.append((sum(x for x, _ in bin_) / len(bin_), sum(heights) / len(bin_)))
            band.append((min(heights), max(heights)))
    return Line(s.label, points, s.tone, band)


def _note(chart: Chart) -> Html:
    lost = sum(not _finite(p) for s in chart.series for p in s.points)
    sizes = {_bin_size(s) for s in chart.series} - {1}
    notes = [
        chart.note,
        f"Means of {max(sizes)} steps; the band is their range." if sizes else "",
        f"{lost} value{'s are' if lost > 1 else ' is'} not finite and left out." if lost else "",
    ]
    return label(" ".join(n for n in notes if n))


def framed(title: str, key: Html, drawing: Html, described: str, note: Html, *, height: float = HEIGHT) -> Html:
    # The drawing is one image to a screen reader: its label is the title and the numbers in words.
    svg = tag(
        "svg",
        tag("title", label(title)),
        tag("desc", label(described)),
        drawing,
        viewBox=f"0 0 {coordinate(WIDTH)} {coordinate(height)}",
        role="img",
        aria_label=f"{title}. {described}",
    )
    caption = tag("figcaption", tag("strong", label(title)))
    return tag("figure", caption, key, svg, *([tag("p", note, class_="note")] if note else []))


def _x_range(series: Sequence[Line | Dots], marks: Sequence[Mark]) -> Range:
    xs = [p[0] for s in series for p in s.points if _finite(p)] + [m.at for m in marks if m.vertical]
    low, high = min(xs), max(xs)
    if high == low:
        return nice_range(xs)
    if all(isinstance(s, Dots) for s in series):
        room = 0.08 * (high - low)  # keeps whiskers off the frame
        return Range(low - room, high + room)
    # Exactly the data's range: training curves start at the axis and end at the frame.
    return Range(min(low, 0.0) if low <= 0.15 * high else low, high)


def _heights(series: Sequence[Line | Dots]) -> list[float]:
    heights = [y for s in series for x, y in s.points if _finite((x, y))]
    for s in series:
        spread = s.band if isinstance(s, Line) else s.interval
        heights.extend(e for pair in spread or () for e in pair if math.isfinite(e))
    return heights


def _finite(point: Point) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def coordinate(value: float) -> str:
    """A number of drawing units, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")
