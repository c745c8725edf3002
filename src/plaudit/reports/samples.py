"""Answers side by side: some drawn at random with the run's seed, then those the judge finds to have got worse most.

Nothing is picked by hand, and the worst are shown because a mean hides them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from plaudit.core.seeding import derive
from plaudit.reports.figures import is_number
from plaudit.reports.folders import Folder, Row
from plaudit.reports.markup import Html, folded, join, paragraph, tag, text
from plaudit.reports.scales import number
from plaudit.reports.stages import STAGE_NAMES

RANDOM, WORST = 6, 3
LONGEST = 3000  # characters of one answer that are shown


class Side(NamedTuple):
    """One answer and what was measured on it."""

    who: str
    answer: str
    score: float | None
    judged: bool = True  # whether there is a judge at all; then no score means unscored
    details: str = ""


class Pair(NamedTuple):
    """Answers of two policies, or of two moments of one, to the same prompt."""

    prompt: str
    before: Side
    after: Side

    @property
    def change(self) -> float | None:
        """How much better the judge finds the second answer; None when either has no score."""
        if self.before.score is None or self.after.score is None:
            return None
        return self.after.score - self.before.score


def answers(folders: Sequence[Folder]) -> Html:
    """The samples of all runs: those of evaluations, and folded behind them what training runs sampled on the way."""
    found = [(folder, shown) for folder in folders if (shown := side_by_side(folder))]
    titled = {
        f.path: join([tag("h3", text(f"{STAGE_NAMES.get(f.stage, f.stage)}: {f.name}")), shown]) for f, shown in found
    }
    evaluations = [titled[f.path] for f, _ in found if f.stage == "evaluate"]
    others = [titled[f.path] for f, _ in found if f.stage != "evaluate"]
    if not evaluations:
        return join(others)
    return join([*evaluations, *([folded("Answers sampled during training", *others)] if others else [])])


def side_by_side(folder: Folder) -> Html:
    """The pairs of answers of a run, for each two policies apart; empty where there are none."""
    sides: dict[tuple[str, str], list[Pair]] = {}
    for pair in read_pairs(folder):
        sides.setdefault((pair.before.who, pair.after.who), []).append(pair)
    seed = folder.config.get("seed")
    shown = [_selection(pairs, int(seed) if is_number(seed) else 0) for pairs in sides.values()]
    titles = [f"{before} and {after}" for before, after in sides]
    return join([*shown[:1], *(folded(title, found) for title, found in zip(titles[1:], shown[1:], strict=True))])


def _selection(pairs: Sequence[Pair], seed: int) -> Html:
    chosen = random.Random(derive(seed, "report", "samples")).sample(pairs, min(RANDOM, len(pairs)))
    scored = [pair for pair in pairs if pair.change is not None and pair.change < 0 and pair not in chosen]
    worst = sorted(scored, key=lambda pair: pair.change or 0.0)[:WORST]
    parts = [
        tag("h4", text(f"{len(chosen)} of {len(pairs)}, drawn at random")),
        paragraph(text(f"Drawn with the run's seed ({seed}), not picked."), class_="note"),
        *map(_card, chosen),
    ]
    if worst:
        parts += [tag("h4", text("Where the judge sees the largest step back")), *map(_card, worst)]
    return join(parts)


def read_pairs(folder: Folder) -> list[Pair]:
    """Pairs of answers from samples.jsonl: of an evaluation, or two moments of a training run."""
    rows = [row for row in folder.samples if "prompt" in row]
    if any("answer_a" in row for row in rows):
        return [_evaluated(row, folder.summary) for row in rows if "answer_a" in row]
    chosen = folder.summary.get("best_step")
    return _first_and_chosen(rows, chosen if isinstance(chosen, int) else None)


def prompt_text(prompt: Any) -> str:
    """A prompt as one text: the message itself when there is only one, otherwise each with its role."""
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, list):
        return str(prompt)
    turns = [turn if isinstance(turn, Mapping) else {"role": "?", "content": str(turn)} for turn in prompt]
    if len(turns) == 1:
        return str(turns[0].get("content", ""))
    return "\n".join(f"{turn.get('role', '?')}: {turn.get('content', '')}" for turn in turns)


def _evaluated(row: Mapping[str, Any], summary: Mapping[str, Any]) -> Pair:
    # a is the policy in question and b what it is compared with, so b stands first: before, then after.
    a, b = str(row.get("a") or summary.get("a") or "a"), str(row.get("b") or summary.get("b") or "b")
    return Pair(
        prompt_text(row["prompt"]),
        Side(b, str(row.get("answer_b", "")), _score(row.get("score_b"))),
        Side(a, str(row["answer_a"]), _score(row.get("score_a"))),
    )


def _first_and_chosen(rows: Sequence[Row], chosen: int | None) -> list[Pair]:
    """The first answer to each held-out prompt, and the one at the chosen step (the last, where none was chosen)."""
    answers: dict[str, dict[int, Row]] = {}
    for row in rows:
        if row.get("kind") == "held out" and "response" in row:
            # Of several answers at one step the first: they are exchangeable, and the first is nobody's pick.
            answers.setdefault(prompt_text(row["prompt"]), {}).setdefault(row["step"], row)
    pairs = []
    for prompt, by_step in answers.items():
        first, last = min(by_step), chosen if chosen in by_step else max(by_step)
        if last > first:
            pairs.append(Pair(prompt, _moment(by_step[first]), _moment(by_step[last])))
    return pairs


def _moment(row: Row) -> Side:
    reward = f"training reward: {number(row['reward'])}" if is_number(row.get("reward")) else ""
    return Side(f"step {row['step']}", str(row["response"]), _score(row.get("judge")), "judge" in row, reward)


def _score(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def _card(pair: Pair) -> Html:
    sides = tag("div", _side(pair.before), _side(pair.after), class_="answers")
    return tag("div", tag("p", _clipped(pair.prompt), class_="said prompt", dir="auto"), sides, class_="sample")


def _side(side: Side) -> Html:
    score = "judge: unscored" if side.score is None else f"judge: {number(side.score)}"
    who = tag(
        "p", tag("strong", text(side.who)), tag("span", text(score)), tag("span", text(side.details)), class_="who"
    )
    answer = _clipped(side.answer) if side.answer.strip() else tag("em", text("empty answer"))
    return tag("div", who, tag("p", answer, class_="said", dir="auto"))


def _clipped(value: str) -> Html:
    if len(value) <= LONGEST:
        return text(value)
    return join([text(value[:LONGEST]), tag("em", text(f" … and {len(value) - LONGEST:,} more characters"))])
