"""Sampling as a stage: answers by prompt, best-of-n, and a finished run that is left alone."""

from pathlib import Path

import pytest

from plaudit.core.errors import DataError, RunError
from plaudit.core.files import write_jsonl
from plaudit.core.records import user_prompt
from plaudit.core.run import read_summary
from plaudit.datasets.render import Renderer
from plaudit.models.load import load_policy
from plaudit.models.policy import Policy
from plaudit.models.precision import FLOAT32
from plaudit.rollouts.answers import SampleConfig, answer_prompts, best_of_n, generate, read_answers
from plaudit.rollouts.sampling import Sampling
from plaudit.rollouts.scoring import FunctionScorer

PROMPTS = [user_prompt(text) for text in ("how are you", "name a fruit", "write about the sea")]


@pytest.fixture(scope="module")
def policy(tiny_policy_folder: Path) -> Policy:
    return load_policy(tiny_policy_folder, precision=FLOAT32, train_layers=1)


@pytest.fixture(scope="module")
def renderer(policy: Policy) -> Renderer:
    return Renderer(policy.tokenizer)


@pytest.fixture
def prompts_file(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "prompts.jsonl", ({"prompt": prompt[0].content} for prompt in PROMPTS))
    return tmp_path / "prompts.jsonl"


def test_an_answer_depends_on_its_prompt_and_the_seed_alone(policy: Policy, renderer: Renderer) -> None:
    sampling = Sampling(n=3, max_new_tokens=8)
    together = answer_prompts(policy, renderer, PROMPTS, sampling, seed=1)
    alone = answer_prompts(policy, renderer, PROMPTS[2:], sampling, seed=1)
    assert together[2] == alone[0]
    assert together != answer_prompts(policy, renderer, PROMPTS, sampling, seed=2)


def test_best_of_n_keeps_the_best_of_its_own_draws(policy: Policy, renderer: Renderer) -> None:
    def length(_chats: list[list[dict[str, str]]], responses: list[str]) -> list[float | None]:
        return [float(len(text)) for text in responses]

    sampling = Sampling(n=2, max_new_tokens=8)
    every = answer_prompts(policy, renderer, PROMPTS, sampling.model_copy(update={"n": 8}), seed=1)
    scorer = FunctionScorer("length", length)
    best = best_of_n(policy, renderer, PROMPTS, sampling, best_of=4, scorer=scorer, seed=1)
    for drawn, kept in zip(every, best, strict=True):
        assert kept.responses == (max(drawn.responses[:4], key=len), max(drawn.responses[4:], key=len))


def test_best_of_n_never_keeps_an_unscored_answer(policy: Policy, renderer: Renderer) -> None:
    def last_only(_chats: list[list[dict[str, str]]], responses: list[str]) -> list[float | None]:
        return [-5.0 if place % 4 == 3 else None for place in range(len(responses))]

    sampling = Sampling(n=1, max_new_tokens=8)
    every = answer_prompts(policy, renderer, PROMPTS, sampling.model_copy(update={"n": 4}), seed=1)
    scorer = FunctionScorer("last", last_only)
    best = best_of_n(policy, renderer, PROMPTS, sampling, best_of=4, scorer=scorer, seed=1)
    assert [kept.responses[0] for kept in best] == [drawn.responses[3] for drawn in every]

    silent = FunctionScorer("silent", lambda _chats, responses: [None] * len(responses))
    with pytest.raises(DataError, match="silent scored none of 4"):
        best_of_n(policy, renderer, PROMPTS, sampling, best_of=4, scorer=silent, seed=1)


def test_the_stage_writes_what_it_reads_back_and_runs_once(
    tiny_policy_folder: Path, prompts_file: Path, tmp_path: Path, policy: Policy, renderer: Renderer
) -> None:
    config = SampleConfig(
        run=tmp_path / "run",
        model=str(tiny_policy_folder),
        prompts=str(prompts_file),
        sampling=Sampling(n=2, max_new_tokens=8),
        precision="float32",
    )
    answers = read_answers(generate(config))
    assert answers == answer_prompts(policy, renderer, PROMPTS, config.sampling, seed=0)
    summary = read_summary(config.run)
    assert (summary["prompts"], summary["answers"]) == (3, 6)
    assert summary["clipped_length"] == 1 - sum(sum(one.finished) for one in answers) / 6

    written = (config.run / "answers.jsonl").stat().st_mtime_ns
    generate(config)
    assert (config.run / "answers.jsonl").stat().st_mtime_ns == written
    with pytest.raises(RunError, match="seed"):
        generate(config.model_copy(update={"seed": 1}))


def test_a_prompt_without_room_for_an_answer_is_refused(policy: Policy, renderer: Renderer) -> None:
    with pytest.raises(DataError, match="context is 512"):
        answer_prompts(policy, renderer, PROMPTS, Sampling(max_new_tokens=600), seed=0)


@pytest.mark.parametrize("settings", [{"best_of": 4}, {"reward": "runs/reward"}])
def test_best_of_and_reward_go_together(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        SampleConfig(run=Path("r"), model="m", prompts="p", **settings)  # type: ignore[arg-type]
