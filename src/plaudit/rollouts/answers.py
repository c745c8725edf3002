"""Answers of a policy to a file of prompts: what people or judges look at, and best-of-n at decoding.

Best-of-n draws n answers and keeps the one a reward model likes best: the strongest simple baseline of a reward model,
at n times the cost of an answer. Its distance from the policy is at most log n - (n - 1) / n nats (Beirami et al. 2024,
arXiv:2401.01879).
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from plaudit.core.config import Config
from plaudit.core.errors import DataError
from plaudit.core.files import read_jsonl, write_jsonl
from plaudit.core.progress import Progress, say
from plaudit.core.records import Prompt, prompt_key, prompt_of_turns
from plaudit.core.run import Run
from plaudit.core.seeding import derive
from plaudit.datasets.read import read_prompts
from plaudit.datasets.render import Renderer
from plaudit.models.load import hash_model, load_policy
from plaudit.models.policy import Policy
from plaudit.rollouts.drawn import Answers, Drawn
from plaudit.rollouts.engine import Rollout, sample
from plaudit.rollouts.sampling import Sampling
from plaudit.rollouts.scoring import Scorer, load_scorer, scorer_hash

FILE = "answers.jsonl"
KEPT = "answers.jsonl.partial"


class SampleConfig(Config):
    """Settings of sampling answers to prompts."""

    run: Path = Field(description="Run folder; the answers go to answers.jsonl in it.")
    model: str = Field(description="Policy: smollm2, a model folder, a run folder, or a hub name.")
    prompts: str = Field(description="Prompts to answer; data of any kind.")
    limit: int | None = Field(None, ge=1, description="Answer only so many prompts.")
    sampling: Sampling = Field(Sampling(), description="How answers are drawn, and how many a prompt (n).")
    best_of: int = Field(1, ge=1, description="Draw so many answers for each one that is kept.")
    reward: str | None = Field(None, description="Chooses among best_of answers: a reward model or a function.")
    seed: int = Field(0, ge=0, description="Every random number of the run derives from it.")
    template: Literal["chat", "plain"] = Field("chat", description="As in the training of the model.")
    system: Literal["keep", "merge"] = Field("keep", description="As in the training of the model.")
    precision: Literal["auto", "bfloat16", "float32"] = Field("auto", description="Type the model computes in.")

    @model_validator(mode="after")
    def _consistent(self) -> "SampleConfig":
        if (self.best_of > 1) != (self.reward is not None):
            raise ValueError(
                f"best_of={self.best_of} and reward={self.reward} do not fit: choosing needs both a reward and "
                "best_of above 1"
            )
        return self


def generate(config: SampleConfig) -> Path:
    """Sample answers and write them to `run/answers.jsonl`; returns the run folder. Does nothing if that is finished.

    Killed or stopped, it goes on with the prompts that are not answered yet (`Drawn`).

    Raises:
        DataError, ModelError, ConfigError, RunError: bad input, before anything is sampled.
        Interrupted: Ctrl-C; the answers so far are kept.
    """
    rows = read_prompts(config.prompts, limit=config.limit)
    inputs = rows.inputs("prompts") | {"model": hash_model(config.model)}
    if config.reward is not None:
        inputs["reward"] = scorer_hash(config.reward) or hash_model(config.reward)
    with Run.open(config.run, stage="sample", config=config, inputs=inputs) as run:
        if run.finished:
            (run.path / KEPT).unlink(missing_ok=True)  # killed between the end of the run and this
            say(f"{run.path} is finished already: {run.path / FILE}")
            return run.path
        prompts = [row.prompt for row in rows.rows]
        with Drawn.open(run.path / KEPT, prompts, given={}, precision=config.precision) as drawn:
            with run.timed("sample"):
                answers = _draw(config, prompts, drawn)
            write_jsonl(run.path / FILE, map(_row, answers))
            tokens = [count for one in answers for count in one.tokens]
            finished = [ended for one in answers for ended in one.finished]
            run.finish(
                {
                    "stage": "sample",
                    "prompts": len(answers),
                    "answers": len(tokens),
                    "mean_tokens": sum(tokens) / len(tokens),
                    "clipped_length": 1.0 - sum(finished) / len(finished),
                }
            )
            drawn.remove()
        say(f"{len(tokens)} answers to {len(prompts)} prompts are in {run.path / FILE}.")
        return run.path


def _draw(config: SampleConfig, prompts: Sequence[Prompt], drawn: Drawn) -> list[Answers]:
    policy = load_policy(config.model, precision=drawn.precision, train_layers=1)
    renderer = Renderer(policy.tokenizer, template=config.template, system=config.system)
    if config.reward is None:
        return answer_prompts(policy, renderer, prompts, config.sampling, seed=config.seed, drawn=drawn)
    scorer = load_scorer(config.reward, precision=drawn.precision.name)
    return best_of_n(
        policy,
        renderer,
        prompts,
        config.sampling,
        best_of=config.best_of,
        scorer=scorer,
        seed=config.seed,
        drawn=drawn,
    )


def answer_prompts(
    policy: Policy,
    renderer: Renderer,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    seed: int,
    title: str = "Sampling",
    drawn: Drawn | None = None,
) -> list[Answers]:
    """`sampling.n` answers to each prompt, in the prompts' order. A prompt's answers depend on it and the seed alone.

    What `drawn` keeps of these prompts is not drawn again, and what is drawn is added to it.

    Raises:
        DataError: a prompt leaves no room for an answer.
    """
    ids = [renderer.prompt_ids(prompt) for prompt in prompts]
    context: int = getattr(policy.origin.config, "max_position_embeddings", sys.maxsize)
    for prompt, tokens in zip(prompts, ids, strict=True):
        if len(tokens) + sampling.max_new_tokens > context:
            raise DataError(
                f"The prompt {_opening(prompt)} has {len(tokens)} tokens and an answer may have "
                f"{sampling.max_new_tokens}, but the model's context is {context}. Shorten the prompt."
            )
    found = dict(drawn.answers) if drawn else {}
    left = [place for place in range(len(prompts)) if place not in found]
    rollouts: dict[int, dict[int, Rollout]] = {place: {} for place in left}

    def keep(index: int, number: int, rollout: Rollout) -> None:
        progress.advance()
        place = left[index]
        rollouts[place][number] = rollout
        if len(rollouts[place]) < sampling.n:
            return
        row = [rollout for _, rollout in sorted(rollouts.pop(place).items())]
        found[place] = Answers(
            prompts[place],
            tuple(renderer.decode(rollout.response) for rollout in row),
            tuple(rollout.stopped for rollout in row),
            tuple(len(rollout.response) for rollout in row),
        )
        if drawn:
            drawn.add(place, found[place])

    with Progress(title, len(prompts) * sampling.n, done=len(found) * sampling.n) as progress:
        sample(
            policy,
            [ids[place] for place in left],
            sampling,
            end_ids=renderer.end_ids,
            seeds=[derive(seed, "sample", prompt_key(prompts[place])) for place in left],
            on_done=keep,
        )
    return [found[place] for place in range(len(prompts))]


def best_of_n(
    policy: Policy,
    renderer: Renderer,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    best_of: int,
    scorer: Scorer,
    seed: int,
    drawn: Drawn | None = None,
) -> list[Answers]:
    """As `answer_prompts`, with each answer the best of `best_of` of its own. `drawn` keeps all of them, unscored.

    Raises:
        DataError: as there, or the scorer left every answer of a choice unscored.
    """
    more = sampling.model_copy(update={"n": sampling.n * best_of})
    title = f"Sampling best of {best_of}"
    answers = answer_prompts(policy, renderer, prompts, more, seed=seed, title=title, drawn=drawn)
    flat = [(one.prompt, response) for one in answers for response in one.responses]
    scores = iter(scorer.score([prompt for prompt, _ in flat], [response for _, response in flat]))
    return [_keep_best(one, [next(scores) for _ in one.responses], best_of, scorer.name) for one in answers]


def read_answers(run: Path) -> list[Answers]:
    """The answers of a finished sampling run, in order."""
    return [
        Answers(
            prompt_of_turns(row["prompt"]),
            tuple(row["responses"]),
            tuple(row["finished"]),
            tuple(row["tokens"]),
        )
        for row in read_jsonl(run / FILE)
    ]


def _keep_best(answers: Answers, scores: Sequence[float | None], best_of: int, scorer: str) -> Answers:
    """The best of each `best_of` answers in a row; of equal scores the one drawn first."""
    kept: list[int] = []
    for start in range(0, len(scores), best_of):
        scored = [place for place in range(start, start + best_of) if scores[place] is not None]
        if not scored:
            raise DataError(
                f"{scorer} scored none of {best_of} answers to {_opening(answers.prompt)}, so none is the best. "
                "Use a reward that scores every answer."
            )
        kept.append(max(scored, key=lambda place: scores[place] or 0.0))
    return Answers(
        answers.prompt,
        tuple(answers.responses[place] for place in kept),
        tuple(answers.finished[place] for place in kept),
        tuple(answers.tokens[place] for place in kept),
    )


def _row(answers: Answers) -> dict[str, Any]:
    return answers._asdict() | {"prompt": [{"role": turn.role, "content": turn.content} for turn in answers.prompt]}


def _opening(prompt: Prompt) -> str:
    return repr(prompt[-1].content[:60])
