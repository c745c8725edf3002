"""`plaudit generate`: answers of a model, and best-of-n."""

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from plaudit.cli.answers import SamplingConfig, load_speaker, plain_prompt, score_in_parts
from plaudit.cli.command import Command, Outcome
from plaudit.cli.output import check_free
from plaudit.core.records import PromptRow

# Where things lie decides no draw (what lies there does, by its hash), and the reward scores after the last one.
_NOT_DRAWN_WITH = {"out", "overwrite", "model", "prompts", "reward"}


class GenerateConfig(SamplingConfig):
    """Settings of `plaudit generate`."""

    model: str = Field("smollm2", description="Model that answers: smollm2, a folder, a run, a hub name.")
    prompts: str = Field(description="Prompts to answer: data of any kind.")
    out: Path = Field(description="JSON lines to write: `prompt`, `responses`, `finished`.")
    n: int = Field(1, ge=1, description="Answers per prompt.")
    best_of: int | None = Field(
        None,
        ge=2,
        description="Draw this many answers and choose the one `reward` scores highest: `response`, `score`.",
    )
    reward: str | list[str] | None = Field(None, description="Scorer for best_of: a reward model, 'file.py:function'.")
    limit: int | None = Field(None, ge=1, description="Answer only so many prompts.")
    overwrite: bool = Field(False, description="Replace `out` if it exists.")

    @model_validator(mode="after")
    def _consistent(self) -> "GenerateConfig":
        if (self.best_of is None) != (self.reward is None):
            raise ValueError(
                "best_of and reward go together: give both (best_of=8 reward=runs/reward) to choose the best answer, "
                "or neither"
            )
        if self.best_of is not None and self.n != 1:
            raise ValueError(f"n={self.n} has no meaning beside best_of={self.best_of}, which leaves one answer")
        return self


def _run(config: GenerateConfig) -> Outcome:
    from plaudit.core.files import write_jsonl
    from plaudit.datasets.read import read_prompts
    from plaudit.models.load import hash_model
    from plaudit.rollouts.drawn import Drawn

    check_free(config.out, overwrite=config.overwrite)
    prompts = read_prompts(config.prompts, limit=config.limit)
    rows = prompts.rows
    scorer = _load_reward(config)  # before sampling: a wrong reward= must not cost an hour of answers
    given = config.model_dump(mode="json", exclude=_NOT_DRAWN_WITH)
    given |= {f"input {name}": content for name, content in prompts.inputs("prompts").items()}
    given["input model"] = hash_model(config.model)
    with Drawn.open(
        config.out.with_name(f"{config.out.name}.partial"),
        [row.prompt for row in rows],
        given=given,
        precision=config.precision,
        replace=config.overwrite,
    ) as drawn:
        speaker = load_speaker(config.model, config, precision=drawn.precision)
        answers = speaker.answer(rows, config, n=config.best_of or config.n, title="Sampling", drawn=drawn)
        records = [
            {"prompt": plain_prompt(one.prompt), "responses": list(one.responses), "finished": list(one.finished)}
            for one in answers
        ]
        if scorer is not None:
            _choose(records, rows, scorer)
        write_jsonl(config.out, records)
        drawn.remove()
    return _outcome(config, records)


def _outcome(config: GenerateConfig, records: list[dict[str, Any]]) -> Outcome:
    unfinished = sum(not finished for record in records for finished in record["finished"])
    data: dict[str, Any] = {
        "out": str(config.out),
        "prompts": len(records),
        "responses": sum(len(record["responses"]) for record in records),
        "unfinished": unfinished,
    }
    text = (
        f"{config.out}: {data['responses']} answers to {len(records)} prompts, {unfinished} cut off at max_new_tokens"
    )
    if config.reward is not None:
        chosen = [record["score"] for record in records if record["score"] is not None]
        unscored = len(records) - len(chosen)
        data |= {"mean_best_score": sum(chosen) / len(chosen) if chosen else None, "unscored": unscored}
        text += f"; mean best score {data['mean_best_score']:.4g}" if chosen else "; no answer could be scored"
    return Outcome(data, text)


def _load_reward(config: GenerateConfig) -> Any:
    from plaudit.rollouts.scoring import load_scorer

    return None if config.reward is None else load_scorer(config.reward, precision=config.precision)


def _choose(records: list[dict[str, Any]], rows: list[PromptRow], scorer: Any) -> None:
    """Add scores, and the highest-scored answer of each prompt; the first of equals. Unscored answers never win."""
    prompts = [row.prompt for row, record in zip(rows, records, strict=True) for _ in record["responses"]]
    texts = [text for record in records for text in record["responses"]]
    scores = iter(score_in_parts(scorer.score, prompts, texts, title="Scoring"))
    for record in records:
        own = [next(scores) for _ in record["responses"]]
        known = [(score, -place) for place, score in enumerate(own) if score is not None]
        best = -max(known)[1] if known else None
        record["scores"] = own
        record["response"] = None if best is None else record["responses"][best]
        record["score"] = None if best is None else own[best]


GENERATE = Command(
    "generate",
    "Sample answers to prompts; with best_of, keep the one a reward model likes best.",
    (
        "plaudit generate model=runs/ppo prompts=prompts.jsonl out=answers.jsonl temperature=0.7",
        "plaudit generate model=runs/sft prompts=prompts.jsonl out=best.jsonl best_of=8 reward=runs/reward",
    ),
    lambda: GenerateConfig,
    _run,
    "Use and judge",
)
