"""Training reward and independent judge against the distance from the reference: where learning turns into gaming."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plaudit.evaluation.over_optimisation import Bound, Frontier, Point, frontier, read_points, verdict
from plaudit.reports.figures import is_number
from plaudit.reports.folders import Folder
from plaudit.reports.markup import Html, join, paragraph, table, tag, text
from plaudit.reports.plots import Chart, Line, Mark, draw
from plaudit.reports.scales import number

CURVE_POINTS = 60
AXIS = "sqrt(KL), KL in nats a sequence"


def over_optimisation(folders: Sequence[Folder]) -> Html:
    """The section of all PPO runs: a verdict and charts for each, and the runs' judges in one chart."""
    found = [
        (f, points, front)
        for f in folders
        if f.stage == "ppo"
        for points in [read_points(f.metrics)]
        if (front := frontier(points))
    ]
    if not found:
        return Html("")
    parts: list[Html] = []
    for folder, points, front in found:
        parts += [
            tag("h3", text(_title(folder))),
            paragraph(text(verdict(front))),
            tag("div", *_charts(points, front), class_="charts"),
        ]
    if len(found) > 1:
        lines = [
            Line(
                _title(folder),
                [(p.distance, p.judge) for p in front.points if p.judge is not None],
                tone % 5,
                _band(front.points),
            )
            for tone, (folder, _, front) in enumerate(found)
        ]
        together = Chart(
            "The judge, all runs",
            AXIS,
            "judge's score",
            lines,
            note="Compare runs at equal distance, not at equal step.",
        )
        parts += [tag("h3", text("All runs at equal distance")), tag("div", draw(together), class_="charts")]
    return join([*parts, _numbers(found)])


def _title(folder: Folder) -> str:
    settings = folder.config.get("kl")
    coefficient = settings.get("coef") if isinstance(settings, dict) else None
    return f"{folder.name}, KL coefficient {coefficient:g}" if is_number(coefficient) else folder.name


def _charts(points: Sequence[Point], front: Frontier) -> list[Html]:
    judged = [(p.distance, p.judge) for p in front.points if p.judge is not None]
    proxies = [(p.distance, p.proxy) for p in points if p.proxy is not None]
    spread = [(p.distance, p.spread) for p in points if p.spread is not None]
    judge_lines = [Line("judge", judged, 1, _band(front.points))]
    if front.fit is not None:
        reached = np.linspace(max(front.points[0].distance, 1e-3), front.last.distance, CURVE_POINTS)
        label = "fit d(α − β log d)" if front.fit.form == "log" else "fit d(α − β d)"
        judge_lines.append(Line(label, [(float(d), front.fit.at(float(d))) for d in reached], 4, smooth=True))
    mark = [Mark("judge highest", front.peak.distance)]
    return [
        draw(Chart("Training reward", AXIS, "reward", [Line("training reward", proxies, 0)], mark)),
        draw(Chart("Independent judge", AXIS, "judge's score", judge_lines, mark)),
        draw(
            Chart(
                "Disagreement of the reward ensemble",
                AXIS,
                "standard deviation",
                [Line("spread", spread, 2)],
                mark,
                include_y=(0.0,),
            )
        ),
    ]


def _band(points: Sequence[Point]) -> list[tuple[float, float]] | None:
    bounds = [p.judge_interval for p in points if p.judge is not None]
    return [b for b in bounds if b is not None] if bounds and all(b is not None for b in bounds) else None


def _numbers(found: Sequence[tuple[Folder, list[Point], Frontier]]) -> Html:
    rows = []
    for folder, _, front in found:
        fit = front.fit
        peak = "no peak" if fit is None or fit.peak_distance is None else number(fit.peak_distance)
        rows.append(
            [
                text(_title(folder)),
                text(number(front.peak.distance)),
                text(number(front.peak.judge or 0.0)),
                text(number(front.last.distance)),
                text(number(front.last.judge or 0.0)),
                text(number(front.area)),
                _bound(fit.alpha) if fit else text("too few points"),
                _bound(fit.beta) if fit else text("–"),
                text(peak if fit else "–"),
            ]
        )
    header = ["Run", "Highest at", "Judge there", "Ends at", "Judge there", "Mean gain", "α", "β", "Fitted peak"]
    caption = (
        "Distances are sqrt(KL). Mean gain: area under the judge's gain, over the distances reached. Intervals of the "
        "fit take its points as independent, so they are too narrow."
    )
    return table(caption, header, rows, numeric=range(1, 9))


def _bound(found: Bound) -> Html:
    interval = tag("span", text(f" ({number(found.low)} to {number(found.high)})"), class_="interval")
    return join([text(number(found.value)), interval])
