"""Which curves a stage shows, and how they are drawn together. Numbers not named here follow in a fold."""

from __future__ import annotations

from typing import NamedTuple

from plaudit.reports.folders import Folder
from plaudit.reports.markup import Html, folded, tag
from plaudit.reports.plots import Chart, Line, Mark, draw

INTERVAL_ENDS = ("_low", "_high")


class Panel(NamedTuple):
    """One chart: its title, the unit of its y axis, and the logged names with their labels."""

    title: str
    y: str
    lines: tuple[tuple[str, str], ...]
    include: tuple[float, ...] = ()
    tones: tuple[int, ...] = (0, 3)  # 1 is the judge's in every chart


LOSS = Panel("Loss", "nats a token", (("loss", "training"), ("held_out_loss", "held out")))
PAIR_LOSS = LOSS._replace(y="nats a pair")
ACCURACY = Panel("Accuracy", "share of pairs", (("accuracy", "training"), ("held_out_accuracy", "held out")))
LEARNING_RATE = Panel("Learning rate", "learning rate", (("lr", "learning rate"),), (0.0,))
GRADIENT = Panel("Gradient norm", "norm", (("grad_norm", "gradient"),), (0.0,))

PANELS: dict[str, tuple[Panel, ...]] = {
    "sft": (LOSS, LEARNING_RATE, GRADIENT),
    "reward": (PAIR_LOSS, ACCURACY, GRADIENT),
    "ppo": (
        Panel("Training reward", "reward", (("reward", "training prompts"), ("held_out_reward", "held-out prompts"))),
        Panel("Independent judge", "judge's score", (("judge", "judge"),), tones=(1,)),
        Panel(
            "KL from the reference",
            "nats a sequence",
            (("kl", "training prompts"), ("held_out_kl", "held-out prompts")),
            (0.0,),
        ),
        Panel("Entropy of the policy", "nats a token", (("entropy", "entropy"),)),
        Panel(
            "Length of answers",
            "tokens",
            (("response_length", "training prompts"), ("held_out_response_length", "held-out prompts")),
            (0.0,),
        ),
        Panel(
            "Answers cut off at the limit",
            "share",
            (("clipped_length", "training prompts"), ("held_out_clipped_length", "held-out prompts")),
            (0.0,),
        ),
        Panel("Value function", "explained variance", (("explained_variance", "explained variance"),), (0.0,)),
        Panel(
            "Clipped probability ratios",
            "share",
            (("clip_fraction", "policy"), ("value_clip_fraction", "value")),
            (0.0,),
        ),
        Panel("KL coefficient", "reward a nat", (("kl_coefficient", "KL coefficient"),), (0.0,)),
    ),
    "dpo": (
        Panel("Loss", "mean over pairs", (("loss", "training"),)),
        ACCURACY,
        Panel(
            "Lead of the preferred answer", "implicit reward", (("margin", "training"), ("held_out_margin", "held out"))
        ),
        Panel(
            "Implicit rewards", "beta times log-ratio", (("chosen_reward", "preferred"), ("rejected_reward", "other"))
        ),
        # Both falling is displacement: the lead grows while the preferred answers get less likely too.
        Panel("Log-probability", "nats a sequence", (("chosen_log_prob", "preferred"), ("rejected_log_prob", "other"))),
    ),
}


def curves(folder: Folder) -> Html:
    """The charts of one run, and every other logged number in a fold."""
    panels = PANELS.get(folder.stage, ())
    marks = _marks(folder)
    drawn = [chart for panel in panels if (chart := _draw(folder, panel, marks))]
    named = {name for panel in panels for name, _ in panel.lines}
    logged = set(folder.logged())
    ends = {name + end for name in logged for end in INTERVAL_ENDS}
    rest = [name for name in folder.logged() if name not in named | ends and len(folder.column(name)) > 1]
    others = [_draw(folder, Panel(name, name, ((name, name),)), marks) for name in rest]
    parts = [tag("div", *drawn, class_="charts")] if drawn else []
    if others:
        more = "1 more logged number" if len(others) == 1 else f"{len(others)} more logged numbers"
        parts.append(folded(more, tag("div", *others, class_="charts")))
    return Html("".join(parts))


def _draw(folder: Folder, panel: Panel, marks: tuple[Mark, ...]) -> Html:
    present = [(name, label, points) for name, label in panel.lines if len(points := folder.column(name)) > 1]
    lines = [
        Line(label, points, tone, _band(folder, name))
        for tone, (name, label, points) in zip(panel.tones, present, strict=False)
    ]
    return draw(Chart(panel.title, "step", panel.y, lines, marks, include_y=panel.include))


def _band(folder: Folder, name: str) -> list[tuple[float, float]] | None:
    """The logged interval of a number, where every point has one."""
    low, high = (folder.column(name + end) for end in INTERVAL_ENDS)
    if not low or not len(low) == len(high) == len(folder.column(name)):
        return None
    return [(bottom, top) for (_, bottom), (_, top) in zip(low, high, strict=True)]


def _marks(folder: Folder) -> tuple[Mark, ...]:
    best = folder.summary.get("best_step")
    return (Mark("chosen", float(best)),) if isinstance(best, int | float) and best else ()
