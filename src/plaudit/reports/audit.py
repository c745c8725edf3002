"""The audit of a reward model: accuracy beside what it must beat and can reach, and whether its odds are true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from plaudit.reports.bars import bars
from plaudit.reports.figures import Figure, figure, is_number, reading, spoken
from plaudit.reports.folders import Folder
from plaudit.reports.markup import Html, join, paragraph, table, tag, text
from plaudit.reports.plots import Chart, Dots, Mark, draw
from plaudit.reports.scales import Range, nice_range, number

RULES = {
    "length": "length alone (direction learnt from the training pairs)",
    "longer_wins": "the longer answer wins",
    "bag_of_words": "bag of words, trained on the same pairs",
}


def reward_audit(folder: Folder) -> Html:
    """Tables and charts of a reward run's summary; empty when it holds no accuracy."""
    found = folder.summary
    accuracy = figure(found.get("accuracy"))
    if accuracy is None:
        return Html("")
    charts = [
        _accuracy_bars(found, accuracy),
        _reliability(found.get("calibration")),
        *_accuracy_by(found.get("accuracy_by")),
    ]
    parts = [paragraph(text(_what_was_measured(found))), _beside(found, accuracy), tag("div", *charts, class_="charts")]
    notes = [
        *_ensemble(found.get("ensemble")),
        *_length(found.get("length")),
        *_calibration_words(found.get("calibration")),
    ]
    return join([*parts, *(paragraph(text(note), class_="meta") for note in notes)])


def _what_was_measured(found: Mapping[str, Any]) -> str:
    held_out = found.get("held_out") or {}
    counts = {key: held_out.get(key) for key in ("strict_pairs", "prompts", "unscored_pairs")}
    sentence = (
        "Accuracy is the share of strictly ordered pairs, on prompts never trained on, that the model orders as the "
        "labeler did."
    )
    if is_number(counts["strict_pairs"]) and is_number(counts["prompts"]):
        sentence += f" {counts['strict_pairs']:,} pairs of {counts['prompts']:,} prompts"
        sentence += f"; {counts['unscored_pairs']:,} pairs unscored and left out." if counts["unscored_pairs"] else "."
    return sentence


def _beside(found: Mapping[str, Any], accuracy: Figure) -> Html:
    rows = [[text("This reward model"), reading(accuracy, share=True), text("–")]]
    for key, name in RULES.items():
        rule = (found.get("baselines") or {}).get(key)
        if isinstance(rule, Mapping):
            rows.append(
                [
                    text(name.capitalize()),
                    reading(figure(rule.get("accuracy")), share=True),
                    _gain(rule.get("model_gain")),
                ]
            )
    labelers = found.get("labelers") or {}
    if (agreement := figure(labelers.get("agreement"))) is not None:
        rows.append([text("Another labeler, on pairs two of them ordered"), reading(agreement, share=True), text("–")])
    if (same := figure(labelers.get("model_agreement"))) is not None:
        rows.append([text("This reward model, on those same pairs"), reading(same, share=True), text("–")])
    if (ceiling := figure(labelers.get("ceiling_if_independent"))) is not None:
        rows.append([text("Ceiling, if labelers err independently"), reading(ceiling, share=True), text("–")])
    caption = "Accuracy beside what must be beaten and what can be reached"
    return table(caption, ["", "Accuracy", "Gain of the model, in points (paired)"], rows, numeric=[1, 2])


def _gain(found: Any) -> Html:
    gain = figure(found)
    return text("–") if gain is None else reading(Figure(100 * gain.value, 100 * gain.low, 100 * gain.high))


def _accuracy_bars(found: Mapping[str, Any], accuracy: Figure) -> Html:
    shown = [("reward model", accuracy)]
    for key, name in (("bag_of_words", "bag of words"), ("length", "length alone")):
        rule = (found.get("baselines") or {}).get(key)
        if isinstance(rule, Mapping) and (other := figure(rule.get("accuracy"))) is not None:
            shown.append((name, other))
    if (agreement := figure((found.get("labelers") or {}).get("agreement"))) is not None:
        shown.append(("agreement of two labelers", agreement))
    return bars("Accuracy, from chance upwards", "share of pairs", shown, share=True, zero=0.5)


def _reliability(found: Any) -> Html:
    bins = [b for b in (found or {}).get("bins", []) if isinstance(b, Mapping) and b.get("count")]
    points = [(float(b["confidence"]), float(b["frequency"])) for b in bins if is_number(b.get("frequency"))]
    stated = Range(0.5, 1.0)  # each pair is told from the side that the model prefers
    dots = Dots("bins of pairs", points, 0)
    note = "On the diagonal, pairs called 70 % sure are right 70 % of the time."
    heights = nice_range([y for _, y in points], include=stated)
    chart = Chart("Calibration", "stated probability", "share right", [dots], x_bounds=stated, y_bounds=heights)
    return draw(replace(chart, diagonal=True, note=note))


def _accuracy_by(found: Any) -> list[Html]:
    titles = {
        "score_gap": ("Accuracy by difference of scores", "mean difference in the quarter"),
        "margin": ("Accuracy by stated margin", "margin"),
        "rank_gap": ("Accuracy by distance in the ranking", "ranks apart"),
        "vote_share": ("Accuracy by unanimity of labelers", "share of votes"),
    }
    charts = []
    for key, (title, x) in titles.items():
        rows = [(row, figure(row)) for row in (found or {}).get(key, []) if isinstance(row, Mapping)]
        points, intervals = [], []
        for row, read in rows:
            at = row["at"] if is_number(row.get("at")) else _middle(row)
            if read is not None and at is not None:
                points.append((float(at), read.value))
                intervals.append(read.interval or (read.value, read.value))
        chance = Mark("chance", 0.5, vertical=False)
        charts.append(draw(Chart(title, x, "accuracy", [Dots("accuracy", points, 0, intervals)], [chance])))
    return charts


def _middle(row: Mapping[str, Any]) -> float | None:
    return (row["from"] + row["to"]) / 2 if is_number(row.get("from")) and is_number(row.get("to")) else None


def _ensemble(found: Any) -> list[str]:
    if not isinstance(found, Mapping):
        return []
    each = [figure(member) for member in found.get("accuracy", [])]
    words = (
        f"Ensemble of {found.get('members', len(each))}: " + ", ".join(spoken(f, share=True) for f in each if f) + "."
    )
    together, apart = figure(found.get("accuracy_unanimous")), figure(found.get("accuracy_divided"))
    if together and apart:
        where = f"{spoken(together, share=True)}; where they do not, {spoken(apart, share=True)}"
        words += f" Where all members agree the mean is right {where}."
    return [words]


def _length(found: Any) -> list[str]:
    within = (found or {}).get("correlation_within_prompt")
    if not is_number(within):
        return []
    return [f"Correlation of score and length among answers to the same prompt: {number(float(within))}."]


def _calibration_words(found: Any) -> list[str]:
    known = {
        "ece": "expected calibration error",
        "brier": "Brier score",
        "nll": "negative log-likelihood",
        "temperature": "best temperature",
    }
    told = [f"{name} {number(float(found[key]))}" for key, name in known.items() if is_number((found or {}).get(key))]
    return [f"Calibration: {', '.join(told)}."] if told else []
