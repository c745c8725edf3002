"""What each stage has to say for itself: sentences for the top of the page and a row of the table of stages.

A sentence gives the number, its interval, and what to compare it with. A number that a run folder does not hold is left
out, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from plaudit.reports.figures import Figure, figure, is_number, reading, spoken
from plaudit.reports.folders import Folder
from plaudit.reports.markup import Html, join, table, tag, text
from plaudit.reports.scales import duration, number, percent

STAGE_NAMES = {
    "sft": "Supervised fine-tuning",
    "sample": "Sampling",
    "label": "Labeling",
    "reward": "Reward model",
    "ppo": "PPO",
    "dpo": "DPO",
    "evaluate": "Evaluation",
}


class Fact(NamedTuple):
    """A sentence around a measured number: what was measured, the number, what to compare it with."""

    subject: str
    found: Figure
    beside: str
    share: bool = False
    independent: bool = True  # False for a training reward, whose rise is no evidence

    def html(self) -> Html:
        return join([text(f"{self.subject}: "), reading(self.found, share=self.share), text(self.beside)])

    def plain(self) -> str:
        return f"{self.subject}: {spoken(self.found, share=self.share)}{self.beside}"


def headline(folders: Sequence[Folder]) -> list[Fact]:
    """The facts that count as evidence, the comparison of policies first: it is what the others were done for."""
    order = {"evaluate": 0, "ppo": 1, "dpo": 2, "reward": 3, "sft": 4}
    ranked = sorted(folders, key=lambda f: order.get(f.stage, len(order)))
    return [fact for folder in ranked for fact in facts(folder) if fact.independent]


def facts(folder: Folder) -> list[Fact]:
    """The main measured numbers of one run."""
    return _FACTS.get(folder.stage, _no_facts)(folder)


def comparisons(folder: Folder) -> list[dict[str, Any]]:
    """The comparisons of an evaluation, those by an independent judge first."""
    found = [c for c in folder.summary.get("comparisons", []) if isinstance(c, dict)]
    return sorted(found, key=lambda c: not c.get("independent", False))


def stage_table(folders: Sequence[Folder]) -> Html:
    """One row a run: what it measured, how many steps it took, how long they took."""
    rows = []
    for folder in folders:
        told = [f.html() for f in facts(folder)] or [text(_deed(folder))]
        steps = folder.metrics[-1]["step"] if folder.metrics else None
        seconds = total_seconds(folder)
        name = folder.name if folder.finished else f"{folder.name} (not finished)"
        rows.append(
            [
                join([text(STAGE_NAMES.get(folder.stage, folder.stage)), tag("div", text(name), class_="meta")]),
                tag("div", join(told, "<br>"), class_="prose"),
                text("–" if steps is None else f"{steps:,}"),
                text(duration(seconds) if seconds else "–"),
            ]
        )
    caption = (
        "Stages in the order of the loop. In brackets: 95 % intervals; a prompt, not an answer, is one observation."
    )
    return table(caption, ["Stage", "Result", "Steps", "Time"], rows, numeric=[2, 3])


def _deed(folder: Folder) -> str:
    """What a run without a result of its own did."""
    summary = folder.summary
    if folder.stage == "sample" and is_number(summary.get("answers")) and is_number(summary.get("prompts")):
        cut = summary.get("clipped_length")
        cut_off = f"; {percent(cut)} cut off at the length limit" if is_number(cut) else ""
        return f"{summary['answers']:,} answers to {summary['prompts']:,} prompts{cut_off}."
    if folder.stage == "label" and is_number(summary.get("rankings")):
        return f"{summary['rankings']:,} rankings by {summary.get('labelers', '?')} labelers."
    return "no measurement"


def total_seconds(folder: Folder) -> float:
    """All seconds that timings.jsonl accounts for."""
    return sum(
        float(value) for row in folder.timings for key, value in row.items() if is_number(value) and is_duration(key)
    )


def is_duration(key: str) -> bool:
    """Whether a column of timings.jsonl is a time: rates and totals stand there too."""
    return key not in ("step", "total") and "_per_" not in key


def _no_facts(_: Folder) -> list[Fact]:
    return []


def _evaluation(folder: Folder) -> list[Fact]:
    told = []
    for c in comparisons(folder):
        rate = figure(c.get("rate"))
        if rate is None:
            continue
        independent = bool(c.get("independent"))
        counts = f"{c.get('wins', 0)} won, {c.get('ties', 0)} tied, {c.get('losses', 0)} lost"
        if c.get("unscored"):
            counts += f", {c['unscored']} unscored"
        beside = f", where 50 % is no difference ({counts}; {c.get('prompts', '?')} prompts)."
        if (at_equal_length := figure(c.get("length_controlled"))) is not None:
            beside += f" At equal length {spoken(at_equal_length, share=True)}."
        judge = f"{folder.called(c.get('judge', 'judge'))}{'' if independent else ' (the training reward)'}"
        subject = f"Win rate of {c.get('a', 'a')} against {c.get('b', 'b')} by {judge}"
        told.append(Fact(subject, rate, beside, share=True, independent=independent))
    return told


def _ppo(folder: Folder) -> list[Fact]:
    told = []
    judged, rewarded = _moments(folder.summary.get("judge")), _moments(folder.summary.get("reward"))
    step = folder.summary.get("best_step")
    if judged.best is not None and judged.start is not None:
        after = f" at the chosen step {step}, from {number(judged.start.value)} before training"
        if judged.difference is not None:
            after += f"; difference {spoken(judged.difference)}"
        after += ". The step was chosen on these same prompts, which flatters it a little."
        if step == 0:
            after = " before training, and no later step pleased the judge more."
        judge = folder.called(judged.name)
        told.append(Fact(f"Mean score of {folder.name} by {judge}, held-out prompts", judged.best, after))
    if rewarded.best is not None and rewarded.start is not None:
        after = f" there, from {number(rewarded.start.value)} before training"
        kl = folder.summary.get("kl")
        after += f", at a sequence KL of {number(kl)} nats from the reference." if is_number(kl) else "."
        told.append(Fact(f"Training reward of {folder.name}", rewarded.best, after, independent=False))
    if not told and (rewards := folder.column("reward")):
        after = f" at step {rewards[-1][0]:.0f}, from {number(rewards[0][1])} at the start; the run is not finished."
        told.append(Fact(f"Training reward of {folder.name}", Figure(rewards[-1][1]), after, independent=False))
    return told


class _Moments(NamedTuple):
    """One score before training and at the chosen step, with their paired difference."""

    name: str
    start: Figure | None
    best: Figure | None
    difference: Figure | None


def _moments(found: Any) -> _Moments:
    known = found if isinstance(found, dict) else {}
    return _Moments(str(known.get("name", "")), *(figure(known.get(key)) for key in ("start", "best", "difference")))


def _dpo(folder: Folder) -> list[Fact]:
    held_out = folder.summary.get("held_out")
    accuracy = figure(held_out.get("accuracy")) if isinstance(held_out, dict) else None
    subject = f"Implicit reward of {folder.name}, accuracy on pairs of unseen prompts"
    return [Fact(subject, accuracy, ", where 50 % is chance.", share=True)] if accuracy else []


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
    return [Fact(f"Reward model {folder.name}, accuracy on pairs of unseen prompts", accuracy, after, share=True)]


def _sft(folder: Folder) -> list[Fact]:
    losses = folder.summary.get("held_out_loss")
    before, after = (
        (figure(losses.get(key)) for key in ("before", "after")) if isinstance(losses, dict) else (None, None)
    )
    if before is None or after is None:
        return []
    change = figure(losses.get("change")) if isinstance(losses, dict) else None
    words = f" nats a token, from {number(before.value)} before"
    words += f"; change {spoken(change)}." if change else "."
    return [Fact(f"Loss of {folder.name} on demonstrations of unseen prompts", after, words)]


_FACTS: dict[str, Callable[[Folder], list[Fact]]] = {
    "evaluate": _evaluation,
    "ppo": _ppo,
    "dpo": _dpo,
    "reward": _reward,
    "sft": _sft,
}
