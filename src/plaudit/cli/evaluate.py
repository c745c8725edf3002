"""`plaudit evaluate`: does policy a answer better than policy b?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from plaudit.cli.answers import SamplingConfig, load_speaker, plain_prompt, score_in_parts
from plaudit.cli.command import Command, Outcome
from plaudit.cli.output import check_free
from plaudit.cli.score import show_interval
from plaudit.core.errors import DataError
from plaudit.core.records import PromptRow, prompt_key

if TYPE_CHECKING:
    from plaudit.core.run import Run


class EvaluateConfig(SamplingConfig):
    """Settings of `plaudit evaluate`."""

    a: str = Field(description="First policy: a model, or a .jsonl file of answers that `plaudit generate` wrote.")
    b: str = Field(description="Second policy, likewise: usually the SFT model.")
    prompts: str = Field(description="Prompts to answer, which neither policy was trained on.")
    judge: str | list[str] = Field(
        description="Scorer that judges, other than the training reward: a reward model, 'file.py:function'."
    )
    n: int = Field(1, ge=1, description="Answers per prompt and policy, compared one to one.")
    run: Path | None = Field(None, description="Run folder to keep the result in, for `plaudit report`.")
    limit: int | None = Field(None, ge=1, description="Use only so many prompts.")
    out: Path | None = Field(None, description="JSON lines to write: both answers with their scores.")
    overwrite: bool = Field(False, description="Replace `out` if it exists.")


def _run(config: EvaluateConfig) -> Outcome:
    from plaudit.core.run import Run
    from plaudit.datasets.read import read_prompts

    rows = read_prompts(config.prompts, limit=config.limit)
    if config.out is not None:
        check_free(config.out, overwrite=config.overwrite)
    if config.run is None:
        data = _compare(config, rows.rows, None)
    else:
        inputs = {"prompts": rows.sha256} | {side: _content(name) for side, name in (("a", config.a), ("b", config.b))}
        with Run.open(config.run, stage="evaluate", config=config, inputs=inputs) as run:
            if run.finished:
                data = run.summary()["comparisons"][0]
            else:
                run.rewind(-1)
                with run.timed("compare"):
                    data = _compare(config, rows.rows, run)
                run.finish({"stage": "evaluate", "comparisons": [data]})
    return Outcome(data, "\n".join(_describe(data)))


def _content(name: str) -> str:
    """Hash of a model or of a file of answers."""
    from plaudit.core.files import sha256_file
    from plaudit.models.load import hash_model

    return sha256_file(Path(name)) if _is_file(name) and Path(name).exists() else hash_model(name)


def _is_file(name: str) -> bool:
    return name.endswith((".jsonl", ".jsonl.gz"))


def _compare(config: EvaluateConfig, rows: Sequence[PromptRow], run: Run | None) -> dict[str, Any]:
    """Answer, judge, and write the answers to `out` and into the run folder, where asked for."""
    from plaudit.core.files import write_jsonl
    from plaudit.evaluation.winrate import as_dict, win_rate
    from plaudit.rollouts.scoring import load_scorer

    judge = load_scorer(config.judge, precision=config.precision)
    prompts = [row.prompt for row in rows for _ in range(config.n)]
    texts = {side: _answers(name, side, rows, config) for side, name in (("a", config.a), ("b", config.b))}
    scores = {
        side: score_in_parts(judge.score, prompts, answers, title=f"Judging {side}") for side, answers in texts.items()
    }
    found = win_rate(
        scores["a"],
        scores["b"],
        [prompt_key(prompt) for prompt in prompts],
        lengths_a=[len(text) for text in texts["a"]],
        lengths_b=[len(text) for text in texts["b"]],
    )
    columns = list(zip(prompts, texts["a"], texts["b"], scores["a"], scores["b"], strict=True))
    if config.out is not None:
        names = ("a", "b", "score_a", "score_b")
        write_jsonl(
            config.out,
            [{"prompt": plain_prompt(asked)} | dict(zip(names, rest, strict=True)) for asked, *rest in columns],
        )
    if run is not None:
        shared = {"a": config.a, "b": config.b, "judge": judge.name}
        names = ("answer_a", "answer_b", "score_a", "score_b")
        for asked, *rest in columns:
            turns = [{"role": turn.role, "content": turn.content} for turn in asked]
            run.sample(0, prompt=turns, **shared, **dict(zip(names, rest, strict=True)))
    return {"a": config.a, "b": config.b, "judge": judge.name, "independent": True} | as_dict(found)


def _answers(name: str, side: str, rows: Sequence[PromptRow], config: EvaluateConfig) -> list[str]:
    """`config.n` texts for each row, in order."""
    if _is_file(name):
        return _from_file(name, rows, config.n)
    speaker = load_speaker(name, config)
    answers = speaker.answer(rows, config, n=config.n, title=f"Sampling {side}")
    return [text for one in answers for text in one.responses]


def _from_file(name: str, rows: Sequence[PromptRow], n: int) -> list[str]:
    """Answers that were sampled earlier: the chosen one of best-of-n, or the first `n`."""
    from plaudit.core.files import read_jsonl
    from plaudit.core.records import Source
    from plaudit.datasets.formats import prompt_row

    path = Path(name)
    if not path.exists():
        raise DataError(f"{name} does not exist. Give a model, or a file that `plaudit generate` wrote.")
    found: dict[str, list[str]] = {}
    for number, record in enumerate(read_jsonl(path), start=1):
        key = prompt_key(prompt_row(record, Source(name, number)).prompt)
        best = record.get("response")
        found.setdefault(key, []).extend([best] if best is not None else record.get("responses", []))
    texts: list[str] = []
    for row in rows:
        own = found.get(prompt_key(row.prompt), [])
        if len(own) < n:
            raise DataError(
                f"{name} has {len(own)} answers to the prompt of {row.source}; {n} are needed. "
                f"Sample them: plaudit generate model=… prompts={row.source.file} n={n} out=…"
            )
        texts += own[:n]
    return texts


def _describe(data: dict[str, Any]) -> list[str]:
    rate = data["rate"]
    lines = [
        f"{data['a']} against {data['b']}, judged by {data['judge']}",
        f"win rate {show_interval(rate)}: {data['wins']} wins, {data['ties']} ties, {data['losses']} losses",
    ]
    if data["unscored"]:
        lines.append(f"{data['unscored']} comparisons could not be judged; they count neither way")
    if data["length_controlled"] is not None:
        lines.append(f"at equal length {show_interval(data['length_controlled'])}")
    lines.append(f"mean length {data['mean_length_a']:.0f} against {data['mean_length_b']:.0f} characters")
    if rate["low"] is not None and rate["low"] <= 0.5 <= rate["high"]:
        lines.append("the interval holds 0.5: no difference is shown; more prompts make it narrower")
    return lines


EVALUATE = Command(
    "evaluate",
    "Compare two policies: how often a judge prefers a's answer to b's.",
    (
        "plaudit evaluate a=runs/ppo b=runs/sft prompts=held_out.jsonl judge=rules.py:score run=runs/evaluation",
        "plaudit evaluate a=best.jsonl b=runs/sft prompts=held_out.jsonl judge=runs/judge n=2 --json",
    ),
    lambda: EvaluateConfig,
    _run,
    "Use and judge",
)
