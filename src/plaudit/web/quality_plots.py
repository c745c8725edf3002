"""Statistics of judgments as inline SVG, drawn with the helpers of `reports`. An empty figure is left out."""

import math
from collections.abc import Sequence

from plaudit.feedback.bias.effects import EVERYBODY
from plaudit.feedback.quality.drift import Period
from plaudit.feedback.quality.intervals import Estimate
from plaudit.feedback.quality.labeler_pairs import LabelerPair
from plaudit.feedback.quality.labelers import LabelerCard
from plaudit.feedback.quality.report import Quality
from plaudit.reports.bars import bars
from plaudit.reports.figures import Figure, spoken
from plaudit.reports.markup import Html, join, label, tag
from plaudit.reports.plots import WIDTH, Chart, Line, coordinate, draw, framed
from plaudit.reports.scales import Range, percent

MOST_ROWS = 20
"""Labelers in a plot; the table beside it has all of them."""
_NAMES = 92.0
_LARGEST, _READABLE = 26.0, 18.0


def agreement_of_labelers(quality: Quality) -> Html:
    """Each labeler's agreement with the majority of the others."""
    shown = [(card.labeler, made) for card in quality.labelers if (made := _figure(card.majority))]
    title = "Agreement with the majority of the others"
    return bars(title, "strict preferences that the others' majority shares", shown[:MOST_ROWS], share=True)


def ties_of_labelers(quality: Quality) -> Html:
    """Each labeler's share of pairs called equal."""
    shown = [(card.labeler, made) for card in quality.labelers if (made := _figure(card.tie_rate))]
    return bars("Pairs called equal", "share of judged pairs", shown[:MOST_ROWS], share=True)


def agreement_of_pairs(quality: Quality) -> Html:
    """A matrix: how often each two labelers agree on pairs that both rank strictly; darker is more often."""
    known = [pair for pair in quality.labeler_pairs if pair.strict.value is not None]
    names = _most_judged(quality.labelers, known)
    if len(names) < 2:
        return Html("")
    place = {name: number for number, name in enumerate(names)}
    size = min(_LARGEST, (WIDTH - _NAMES) / len(names))
    parts = [
        tag("text", label(_short(name)), x=_NAMES - 6, y=coordinate(size * (row + 0.5)), dy="0.35em", text_anchor="end")
        for row, name in enumerate(names)
    ]
    drawn = [pair for pair in known if pair.first in place and pair.second in place]
    for pair in drawn:
        for row, column in ((pair.first, pair.second), (pair.second, pair.first)):
            parts.append(_cell(place[row], place[column], size, pair))
    described = " ".join(f"{pair.first} and {pair.second}: {_spoken(pair.strict)}." for pair in drawn)
    note = label("Empty: too few pairs in common. Columns are in the order of the rows.")
    return framed("Agreement of two labelers", Html(""), join(parts), described, note, height=size * len(names) + 4)


def drift_charts(quality: Quality) -> list[Html]:
    """Agreement, ties and seconds over periods of equally many judgments."""
    periods = quality.drift.periods
    figures = (
        ("Agreement with the others over time", "share", [period.majority for period in periods]),
        ("Pairs called equal over time", "share", [period.tie_rate for period in periods]),
        ("Seconds a judgment over time", "seconds", [period.seconds for period in periods]),
    )
    charts = [_over_time(title, unit, periods, values) for title, unit, values in figures]
    return [chart for chart in charts if chart]


def bias_effects(quality: Quality, probe: str) -> Html:
    """One probe: the effect of everybody and of each labeler, with intervals; 0 is no effect."""
    effects = [effect for effect in quality.bias.effects if effect.probe == probe]
    everybody = [effect for effect in effects if effect.labeler == EVERYBODY]
    single = [effect for effect in effects if effect.labeler != EVERYBODY and effect.effect.value is not None]
    strongest = sorted(single, key=lambda effect: -abs(effect.effect.value or 0.0))[: MOST_ROWS - len(everybody)]
    shown = [(effect.labeler, made) for effect in (*everybody, *strongest) if (made := _figure(effect.effect))]
    scale = effects[0].scale.partition(",")[0] if effects else ""  # the rest would run out of the drawing
    return bars(f"{probe.capitalize()} effect", scale, shown, share=True)


def _figure(estimate: Estimate) -> Figure | None:
    if estimate.value is None:
        return None
    return Figure(estimate.value, _number(estimate.low), _number(estimate.high), estimate.n)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _spoken(estimate: Estimate) -> str:
    made = _figure(estimate)
    return spoken(made, share=True) if made else "no figure"


def _cell(row: int, column: int, size: float, pair: LabelerPair) -> Html:
    value = pair.strict.value or 0.0
    box = {"x": coordinate(_NAMES + column * size), "y": coordinate(row * size), "width": coordinate(size - 1)}
    # From one half, which guessing reaches, to full agreement.
    shade = f"{0.08 + 0.92 * max(0.0, 2 * value - 1):.2f}"
    parts = [tag("rect", **box, height=coordinate(size - 1), class_="bar tone-0", fill_opacity=shade)]
    if size >= _READABLE:
        middle = {"x": coordinate(_NAMES + (column + 0.5) * size), "y": coordinate((row + 0.5) * size)}
        written = label(f"{100 * value:.0f}")
        parts.append(tag("text", written, **middle, dy="0.35em", text_anchor="middle", class_="bar-label"))
    return join(parts)


def _most_judged(cards: Sequence[LabelerCard], pairs: Sequence[LabelerPair]) -> list[str]:
    paired = {name for pair in pairs for name in (pair.first, pair.second)}
    return [card.labeler for card in cards if card.labeler in paired][:MOST_ROWS]


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"


def _over_time(title: str, unit: str, periods: Sequence[Period], values: Sequence[Estimate]) -> Html:
    points = [(float(at), _number(value.value)) for at, value in enumerate(values, start=1)]
    band = [(_number(value.low), _number(value.high)) for value in values]
    known = [value.value for value in values if value.value is not None]
    if not known:
        return Html("")
    ends = f"from {_said(known[0], unit)} to {_said(known[-1], unit)} over {len(periods)} periods"
    line, whole = Line(title, points, band=band), Range(1.0, float(len(periods)))
    return draw(Chart(title, "period, each with as many judgments", unit, [line], x_bounds=whole, note=ends))


def _said(value: float, unit: str) -> str:
    return percent(value) if unit == "share" else f"{value:.0f} s"
