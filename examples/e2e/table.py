"""How the example's policies compare on the test prompts: one row a policy, every figure with its interval."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from plaudit.core.config import Config
from plaudit.core.files import sha256_file
from plaudit.core.records import Prompt, prompt_key
from plaudit.core.run import Run, read_summary
from plaudit.evaluation.comparison import Contestant, Judge, compare_policies
from plaudit.evaluation.statistics import clustered_mean
from plaudit.rollouts.answers import FILE, read_answers
from plaudit.rollouts.drawn import Answers
from plaudit.rollouts.scoring import Scorer, load_scorer

_FOLDER = Path(__file__).parent
_RULE = os.path.relpath(_FOLDER / "slots.py") + ":judge"  # a name for the report, without the folders of this machine


def policy_table(run: Path) -> str:
    """For each policy facts missing and invented, the judge, the training reward, length, and win rates."""
    summary = read_summary(run / "evaluation")
    lines = [
        "| policy | facts missing | facts invented | judge | training reward | tokens | rule: wins | judge: wins |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rates = {(c["a"], c["judge"]): c for c in summary["comparisons"]}
    rule, judge = summary["rule"], summary["judge"]
    for name, row in summary["policies"].items():
        wins = [_rate(rates.get((name, scorer))) for scorer in (rule, judge)]
        cells = [mean_cell(row[key]) for key in ("missing", "invented", "judge", "reward", "tokens")]
        lines.append(f"| {name} | {' | '.join([*cells, *wins])} |")
    return "\n".join(lines)


class Remembered:
    """A scorer that scores each answer once: the first policy's are compared with every other's."""

    def __init__(self, scorer: Scorer) -> None:
        self.name = scorer.name
        self._scorer = scorer
        self._known: dict[tuple[Prompt, str], float | None] = {}

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[float | None]:
        """As the scorer behind it."""
        asked = list(zip(prompts, responses, strict=True))
        new = list(dict.fromkeys(pair for pair in asked if pair not in self._known))
        if new:
            found = self._scorer.score([prompt for prompt, _ in new], [text for _, text in new])
            self._known.update(zip(new, found, strict=True))
        return [self._known[pair] for pair in asked]


class CompareConfig(Config):
    """Settings of the comparison, as its run folder records them."""

    run: Path = Field(description="Run folder.")
    models: Path = Field(description="Folder of the judge and of the training reward.")
    policies: list[str] = Field(description="Contestants; each is compared with the first.")
    seed: int = Field(description="Seed of the samples that the report shows.")


def compare(run: Path, *, policies: list[str], models: Path, seed: int) -> Path:
    """Judge every policy's answers, in run/test-NAME, and write run/evaluation; all are compared with the first."""
    settings = CompareConfig(run=run / "evaluation", models=models, policies=policies, seed=seed)
    inputs = {name: sha256_file(run / f"test-{name}" / FILE) for name in policies}
    inputs["rule"] = sha256_file(_FOLDER / "slots.py")
    with Run.open(settings.run, stage="evaluate", config=settings, inputs=inputs) as stage:
        if stage.finished:
            return stage.path
        stage.rewind(-1)
        rule = Judge(load_scorer(_RULE), True, "a rule that counts facts missing and invented, unseen by training")
        judge = Judge(
            Remembered(load_scorer(str(models / "judge"))),
            False,
            "a reward model of other labelers; PPO's checkpoints were chosen by it, on other prompts",
        )
        reward = Judge(Remembered(load_scorer(str(models / "reward"))), False, "the training reward")
        answers = {name: read_answers(run / f"test-{name}") for name in policies}
        base = policies[0]
        comparisons: list[dict[str, Any]] = []
        with stage.timed("compare"):
            for name in policies[1:]:
                asked = [one.prompt for one in answers[name] for _ in one.responses]
                sides = (
                    Contestant(who, [text for one in answers[who] for text in one.responses]) for who in (name, base)
                )
                comparisons += compare_policies(stage, asked, *sides, [rule, judge, reward])
        means = {name: _means(answers[name], judge, reward) for name in policies}
        stage.finish(
            {
                "stage": "evaluate",
                "rule": rule.scorer.name,
                "judge": judge.scorer.name,
                "policies": means,
                "comparisons": comparisons,
            }
        )
        return stage.path


def _means(answers: list[Answers], judge: Judge, reward: Judge) -> dict[str, Any]:
    """Means over a policy's answers, with intervals clustered by prompt."""
    slots = load_slots()
    prompts = [one.prompt for one in answers for _ in one.responses]
    texts = [text for one in answers for text in one.responses]
    covered = [slots.coverage(prompt[-1].content, text) for prompt, text in zip(prompts, texts, strict=True)]
    columns: dict[str, list[float | None]] = {
        "missing": [len(one.missing) for one in covered],
        "invented": [len(one.invented) for one in covered],
        "judge": judge.scorer.score(prompts, texts),
        "reward": reward.scorer.score(prompts, texts),
        "tokens": [float(n) for one in answers for n in one.tokens],
    }
    keys = np.array([prompt_key(prompt) for prompt in prompts])
    means: dict[str, Any] = {}
    for name, values in columns.items():
        scored = [i for i, value in enumerate(values) if value is not None]
        found = clustered_mean([float(values[i] or 0.0) for i in scored], keys[scored])
        means[name] = {"value": found.value, "low": found.low, "high": found.high, "n": len(scored)}
    return means


def load_slots() -> Any:
    """The module of the rule, by path: examples are scripts and not part of the package."""
    spec = importlib.util.spec_from_file_location("slots", _FOLDER / "slots.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mean_cell(found: dict[str, float]) -> str:
    """A mean with its interval, as a table shows it."""
    digits = 1 if found["value"] >= 10 else 2
    return f"{found['value']:.{digits}f} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"


def _rate(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    rate = found["rate"]
    return f"{rate['value']:.0%} ({rate['low']:.0%} to {rate['high']:.0%})"
