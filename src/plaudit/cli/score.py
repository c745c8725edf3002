"""`plaudit score`: scores for texts, and how often they agree with people's judgments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from plaudit.cli.answers import plain_prompt, score_in_parts
from plaudit.cli.command import Command, Outcome
from plaudit.cli.output import check_free
from plaudit.core.config import Config
from plaudit.core.errors import DataError
from plaudit.core.records import Comparison, Demonstration, Prompt, Ranking, Source

if TYPE_CHECKING:
    from plaudit.datasets.judgments import ScoredPrompt
    from plaudit.rollouts.scoring import EnsembleScores


class ScoreConfig(Config):
    """Settings of `plaudit score`."""

    reward: str | list[str] = Field(description="Scorer: a reward model, 'file.py:function'; several make an ensemble.")
    data: str = Field(description="Texts: prompt with response or responses, comparisons, or rankings.")
    out: Path | None = Field(None, description="JSON lines to write: each row of data with its scores.")
    limit: int | None = Field(None, ge=1, description="Score only so many rows.")
    criterion: str | None = Field(None, description="Only judgments of this criterion.")
    precision: Literal["auto", "bfloat16", "float32"] = Field("auto", description="Type reward models compute in.")
    overwrite: bool = Field(False, description="Replace `out` if it exists.")


@dataclass(frozen=True, slots=True)
class Answers:
    """Several answers to one prompt that nobody has ranked: what `plaudit generate` writes."""

    prompt: Prompt
    responses: tuple[str, ...]
    source: Source


Row = Demonstration | Ranking | Comparison | Answers


def _run(config: ScoreConfig) -> Outcome:
    from plaudit.core.files import write_jsonl
    from plaudit.rollouts.scoring import EnsembleScorer, load_scorer

    if config.out is not None:
        check_free(config.out, overwrite=config.overwrite)
    rows = _read(config)
    scorer = load_scorer(config.reward, precision=config.precision)
    texts = [(row.prompt, text) for row in rows for text in _texts(row)]
    parts: list[EnsembleScores] = []

    def score(prompts: Sequence[Prompt], responses: Sequence[str]) -> list[float | None]:
        if not isinstance(scorer, EnsembleScorer):
            return scorer.score(prompts, responses)
        parts.append(scorer.score_members(prompts, responses))
        return parts[-1].scores

    flat = iter(score_in_parts(score, *zip(*texts, strict=True), title="Scoring"))
    scores = [[next(flat) for _ in _texts(row)] for row in rows]
    known = [score for group in scores for score in group if score is not None]
    data: dict[str, Any] = {
        "reward": scorer.name,
        "rows": len(rows),
        "texts": len(texts),
        "unscored": len(texts) - len(known),
        "mean_score": sum(known) / len(known) if known else None,
    }
    lines = [f"{len(texts)} texts of {len(rows)} rows" + (f", mean score {data['mean_score']:.4g}" if known else "")]
    if data["unscored"]:
        lines.append(f"{data['unscored']} texts could not be scored; they count neither way")
    if isinstance(rows[0], Ranking | Comparison):
        measured = _measure(rows, scores)
        data |= measured
        lines += _describe(measured)
    if config.out is not None:
        write_jsonl(config.out, _with_scores(config.data, rows, scores, _members(rows, parts)))
        data["out"] = str(config.out)
        lines.append(f"written to {config.out}")
    return Outcome(data, "\n".join(lines))


def _read(config: ScoreConfig) -> Sequence[Row]:
    from plaudit.datasets.read import read_any

    if _is_unranked(config.data):
        return _read_answers(config)
    found = read_any(config.data, limit=config.limit, criterion=config.criterion)
    if found.kind == "prompt":
        raise DataError(
            f"{config.data} holds prompts without answers: there is nothing to score. "
            "Sample answers first: plaudit generate model=… prompts=… out=…"
        )
    return found.rows


def _is_unranked(path: str) -> bool:
    """Whether the file holds answers that nobody ranked; decided by its first row, as all detection is."""
    from plaudit.datasets.sources import raw_rows

    row = next((row for _, row in raw_rows(path)), None)
    if not isinstance(row, Mapping) or not isinstance(row.get("responses"), list) or row.get("ranks") is not None:
        return False
    return not any(isinstance(item, Mapping) and item.get("score") is not None for item in row["responses"])


def _read_answers(config: ScoreConfig) -> list[Answers]:
    from plaudit.datasets.fields import require, text
    from plaudit.datasets.formats import prompt_row
    from plaudit.datasets.problems import Problems, RowProblem, shown_value
    from plaudit.datasets.sources import raw_rows

    problems = Problems(config.data)
    rows: list[Answers] = []
    seen = 0
    for source, row in raw_rows(config.data):
        if seen == config.limit:
            break
        seen += 1
        try:
            if isinstance(row, RowProblem):
                raise row
            items = require(row, "responses")
            if not isinstance(items, list) or not items:
                raise RowProblem(f"`responses` is {shown_value(items)}; write a list of answers")
            texts = [require(item, "text") if isinstance(item, Mapping) else item for item in items]
            checked = tuple(text(value, f"responses[{place}]") for place, value in enumerate(texts, start=1))
            rows.append(Answers(prompt_row(row, source).prompt, checked, source))
        except RowProblem as problem:
            problems.add(source, problem)
    problems.raise_if_any(seen)
    return rows


def _texts(row: Row) -> tuple[str, ...]:
    if isinstance(row, Comparison):
        return (row.chosen, row.rejected)
    return (row.response,) if isinstance(row, Demonstration) else row.responses


def _measure(rows: Sequence[Any], scores: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """What the scores are worth, by people's judgments; intervals clustered by prompt."""
    from plaudit.evaluation.reward_audit import audit

    found = audit(_by_prompt(rows, scores))
    return {
        "pairs": found["held_out"]["strict_pairs"],
        "prompts": found["held_out"]["prompts"],
        "accuracy": found["accuracy"],
        "majority_accuracy": found["majority_accuracy"],
        "labelers": found["labelers"],
        "length": found["length"],
        "calibration": {name: value for name, value in found["calibration"].items() if name != "bins"},
    }


def _by_prompt(rows: Sequence[Any], scores: Sequence[Sequence[float | None]]) -> "list[ScoredPrompt]":
    from plaudit.core.records import prompt_key
    from plaudit.datasets.judgments import ScoredPrompt, merge_judgments

    by_text = {
        (prompt_key(row.prompt), text): score
        for row, group in zip(rows, scores, strict=True)
        for text, score in zip(_texts(row), group, strict=True)
    }
    return [
        ScoredPrompt(judged, tuple(by_text[judged.key, text] for text in judged.texts))
        for judged in merge_judgments(rows)
    ]


def _describe(measured: Mapping[str, Any]) -> list[str]:
    lines = [f"accuracy {show_interval(measured['accuracy'])} on {measured['pairs']} strictly judged pairs"]
    if measured["labelers"]["agreement"] is not None:
        lines.append(f"labelers agree with each other on {show_interval(measured['labelers']['agreement'])}")
    within = measured["length"]["correlation_within_prompt"]
    if within is not None:
        lines.append(f"correlation of score and length within a prompt {within:.2f}")
    return lines


def show_interval(interval: Mapping[str, Any]) -> str:
    """An estimate of `statistics.Interval` as people read it."""
    if interval["low"] is None or interval["high"] is None:
        return f"{interval['value']:.3f} (one prompt: no interval)"
    low, high, clusters = interval["low"], interval["high"], interval["clusters"]
    return f"{interval['value']:.3f} (95 % {low:.3f} to {high:.3f}, {clusters} prompts)"


def _members(rows: Sequence[Row], parts: "Sequence[EnsembleScores]") -> list[dict[str, Any]]:
    """Of an ensemble, what each model gave the texts of a row: how far they are apart says what to label next."""
    if not parts:
        return [{} for _ in rows]
    models = [
        iter([score for part in parts for score in part.members[number]]) for number in range(len(parts[0].members))
    ]
    return [{"members": [[next(model) for _ in _texts(row)] for model in models]} for row in rows]


def _with_scores(
    path: str, rows: Sequence[Row], scores: Sequence[Sequence[float | None]], members: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The rows as the file has them, with scores added; exports, whose rows hold several judgments, written plainly."""
    from plaudit.datasets.sources import raw_rows

    raw = {source: row for source, row in raw_rows(path) if isinstance(row, dict)}
    whole = len({row.source for row in rows}) == len(rows)
    return [
        (raw[row.source] if whole and "prompt" in raw[row.source] else _plain(row)) | _named(row, group) | extra
        for row, group, extra in zip(rows, scores, members, strict=True)
    ]


def _named(row: Row, scores: Sequence[float | None]) -> dict[str, Any]:
    if isinstance(row, Comparison):
        return {"chosen_score": scores[0], "rejected_score": scores[1]}
    return {"score": scores[0]} if isinstance(row, Demonstration) else {"scores": list(scores)}


def _plain(row: Row) -> dict[str, Any]:
    prompt = {"prompt": plain_prompt(row.prompt)}
    if isinstance(row, Demonstration):
        return prompt | {"response": row.response}
    if isinstance(row, Answers):
        return prompt | {"responses": list(row.responses)}
    if isinstance(row, Ranking):
        own = {"responses": list(row.responses), "ranks": list(row.ranks), "criterion": row.criterion}
    else:
        own = {"chosen": row.chosen, "rejected": row.rejected, "margin": row.margin, "label": row.label}
    return prompt | own | {"labeler": row.labeler, "weight": row.weight}


SCORE = Command(
    "score",
    "Score texts with a reward model; for comparisons and rankings, say how often it agrees with people.",
    (
        "plaudit score reward=runs/reward data=held_out.jsonl",
        "plaudit score reward=rules.py:polite data=answers.jsonl out=scored.jsonl",
    ),
    lambda: ScoreConfig,
    _run,
    "Use and judge",
)
