"""Which curves a stage shows, and how they are drawn together. Numbers not named here follow in a fold."""

from __future__ import annotations

from typing import NamedTuple

from plaudit.reports.folders import Folder
from plaudit.reports.markup import Html, folded, tag
from plaudit.reports.plots import Chart, Line, Mark, draw


class Panel(NamedTuple):
    """One chart: its title, the unit of its y axis, and the logged names with their labels."""

    title: str
    y: str
    lines: tuple[tuple[str, str], ...]
    include: tuple[float, ...] = ()


PANELS: dict[str, tuple[Panel, ...]] = {
    "sft": (
        Panel("Loss", "nats a token", (("loss", "training"), ("validation_loss", "held out"))),
        Panel("Learning rate", "learning rate", (("learning_rate", "learning rate"),), (0.0,)),
        Panel("Gradient norm", "norm", (("gradient_norm", "gradient norm"),), (0.0,)),
    ),
    "reward": (
        Panel("Loss", "nats a pair", (("loss", "training"), ("validation_loss", "held out"))),
        Panel("Accuracy", "share of pairs", (("accuracy", "training"), ("validation_accuracy", "held out"))),
        Panel("Gradient norm", "norm", (("gradient_norm", "gradient norm"),), (0.0,)),
    ),
    "ppo": (
        Panel("Training reward", "reward", (("reward", "training reward"),)),
        Panel("Independent judge, held-out prompts", "judge's score", (("judge", "judge"),)),
        Panel("Distance from the reference", "sequence KL, nats", (("kl", "sequence KL"),), (0.0,)),
        Panel("KL coefficient", "coefficient", (("kl_coefficient", "KL coefficient"),), (0.0,)),
        Panel("Entropy of the policy", "nats a token", (("entropy", "entropy"),)),
        Panel("Length of answers", "tokens", (("response_length", "response length"),), (0.0,)),
        Panel("Answers cut off at the limit", "share", (("clipped_length", "cut off"),), (0.0,)),
        Panel("Clipped probability ratios", "share", (("clip_fraction", "clipped"),), (0.0,)),
        Panel("Value function", "explained variance", (("explained_variance", "explained variance"),), (0.0,)),
        Panel("Ensemble spread", "reward", (("ensemble_spread", "standard deviation of members"),), (0.0,)),
    ),
    "dpo": (
        Panel("Loss", "nats a pair", (("loss", "training"), ("validation_loss", "held out"))),
        Panel("Accuracy", "share of pairs", (("accuracy", "training"), ("validation_accuracy", "held out"))),
        Panel(
            "Implicit reward", "beta times log-ratio", (("chosen_reward", "chosen"), ("rejected_reward", "rejected"))
        ),
    ),
}


def curves(folder: Folder) -> Html:
    """The charts of one run, and every other logged number in a fold."""
    panels = PANELS.get(folder.stage, ())
    marks = _marks(folder)
    drawn = [chart for panel in panels if (chart := _draw(folder, panel, marks))]
    named = {name for panel in panels for name, _ in panel.lines}
    rest = [name for name in folder.logged() if name not in named and len(folder.column(name)) > 1]
    others = [_draw(folder, Panel(name, name, ((name, name),)), marks) for name in rest]
    parts = [tag("div", *drawn, class_="charts")] if drawn else []
    if others:
        parts.append(folded(f"{len(others)} more logged numbers", tag("div", *others, class_="charts")))
    return Html("".join(parts))


def _draw(folder: Folder, panel: Panel, marks: tuple[Mark, ...]) -> Html:
    lines = [
        Line(label, points, tone)
        for tone, (name, label) in enumerate(panel.lines)
        if len(points := folder.column(name)) > 1
    ]
    return draw(Chart(panel.title, "step", panel.y, lines, marks, include_y=panel.include))


def _marks(folder: Folder) -> tuple[Mark, ...]:
    best = folder.summary.get("best_step")
    return (Mark("chosen", float(best)),) if isinstance(best, int | float) and best else ()
