"""What each stage has to say for itself: sentences for the top of the page and a row of the table of stages.

A sentence gives the number, its interval, and what to compare it with. A number that a run folder does not hold is left
out, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from plaudit.reports.figures import Figure, figure, is_number, reading, spoken
from plaudit.reports.folders import Folder
from plaudit.reports.markup import Html, join, table, text
from plaudit.reports.scales import duration, number, percent

STAGE_NAMES = {
    "sft": "Supervised fine-tuning",
    "reward": "Reward model",
    "ppo": "PPO",
    "dpo": "DPO",
    "evaluate": "Evaluation",
}


class Fact(NamedTuple):
    """A sentence around a measured number."""

    before: str
    found: Figure
    after: str
    share: bool = False

    def html(self) -> Html:
        return join([text(f"{self.before} "), reading(self.found, share=self.share), text(self.after)])

    def plain(self) -> str:
        return f"{self.before} {spoken(self.found, share=self.share)}{self.after}"


def headline(folders: Sequence[Folder]) -> list[Fact]:
    """The facts of all runs, the comparison of policies first: it is what the others were done for."""
    order = {"evaluate": 0, "ppo": 1, "dpo": 2, "reward": 3, "sft": 4}
    ranked = sorted(folders, key=lambda f: order.get(f.stage, len(order)))
    return [fact for folder in ranked for fact in facts(folder)]


def facts(folder: Folder) -> list[Fact]:
    """The main measured numbers of one run."""
    return _FACTS.get(folder.stage, _no_facts)(folder)


def comparisons(folder: Folder) -> list[dict[str, Any]]:
    """The comparisons of an evaluation, those by an independent judge first."""
    found = [c for c in folder.summary.get("comparisons", []) if isinstance(c, dict)]
    return sorted(found, key=lambda c: not c.get("independent", False))


def stage_table(folders: Sequence[Folder]) -> Html:
    rows = []
    for folder in folders:
        told = facts(folder)
        steps = folder.metrics[-1].get("step") if folder.metrics else None
        seconds = total_seconds(folder)
        rows.append(
            [
                text(STAGE_NAMES.get(folder.stage, folder.stage)),
                text(folder.name),
                join([f.html() for f in told], "<br>") if told else text("no measurement"),
                text("–" if steps is None else f"{steps:,}"),
                text(duration(seconds) if seconds else "–"),
                text("finished" if folder.finished else "not finished"),
            ]
        )
    caption = "Stages in the order of the loop. In brackets: 95 % interval, clustered by prompt."
    return table(caption, ["Stage", "Run", "Result", "Steps", "Time", "State"], rows, numeric=[3, 4])


def total_seconds(folder: Folder) -> float:
    """All seconds that timings.jsonl accounts for."""
    return sum(
        float(value)
        for row in folder.timings
        for key, value in row.items()
        if key not in ("step", "total") and is_number(value)
    )


def _no_facts(_: Folder) -> list[Fact]:
    return []


def _evaluation(folder: Folder) -> list[Fact]:
    told = []
    for c in comparisons(folder):
        rate = figure(c.get("rate"))
        if rate is None:
            continue
        judge = f"{c.get('judge', 'the judge')}{'' if c.get('independent') else ', the training reward'}"
        counts = f"{c.get('wins', 0)} won, {c.get('ties', 0)} tied, {c.get('losses', 0)} lost"
        unscored = f", {c['unscored']} unscored" if c.get("unscored") else ""
        told.append(
            Fact(
                f"{c.get('a', 'a')} wins against {c.get('b', 'b')}:",
                rate,
                f" by {judge} ({counts}{unscored}).",
                share=True,
            )
        )
    return told


def _ppo(folder: Folder) -> list[Fact]:
    summary, told = folder.summary, []
    judge = summary["judge"] if isinstance(summary.get("judge"), dict) else {}
    start, best = figure(judge.get("start")), figure(judge.get("best"))
    if best is not None:
        began = f", from {spoken(start)} before training" if start else ""
        step = f" at step {summary['best_step']}" if "best_step" in summary else ""
        told.append(Fact(f"Judge {judge.get('name', '')} on held-out prompts:", best, f"{step}{began}."))
    rewards = folder.column("reward")
    if rewards:
        kl = folder.column("kl")
        distance = f", at a sequence KL of {number(kl[-1][1])} nats from the reference" if kl else ""
        told.append(
            Fact("Training reward:", Figure(rewards[-1][1]), f", from {number(rewards[0][1])} at the start{distance}.")
        )
    return told


def _dpo(folder: Folder) -> list[Fact]:
    accuracy = figure(folder.summary.get("accuracy"))
    return [Fact("Preference accuracy on held-out pairs:", accuracy, ".", share=True)] if accuracy else []


def _reward(folder: Folder) -> list[Fact]:
    summary = folder.summary
    accuracy = figure(summary.get("accuracy"))
    if accuracy is None:
        return []
    beside = []
    baselines = summary.get("baselines") or {}
    for key, name in (("length", "the length-only rule"), ("bag_of_words", "a bag of words")):
        rule = baselines.get(key)
        other = figure(rule.get("accuracy")) if isinstance(rule, dict) else None
        if other is not None:
            beside.append(f"{name} {percent(other.value)}")
    labelers = summary.get("labelers") or {}
    agreement = figure(labelers.get("agreement"))
    if agreement is not None:
        beside.append(f"agreement of two labelers {percent(agreement.value)}")
    after = f"; beside it {', '.join(beside)}." if beside else "."
    return [Fact("Reward model, accuracy on pairs of unseen prompts:", accuracy, after, share=True)]


def _sft(folder: Folder) -> list[Fact]:
    losses = folder.column("validation_loss")
    if not losses:
        return []
    return [
        Fact(
            "Loss on held-out demonstrations:",
            Figure(losses[-1][1]),
            f" nats a token, from {number(losses[0][1])} at the start.",
        )
    ]


_FACTS: dict[str, Callable[[Folder], list[Fact]]] = {
    "evaluate": _evaluation,
    "ppo": _ppo,
    "dpo": _dpo,
    "reward": _reward,
    "sft": _sft,
}
