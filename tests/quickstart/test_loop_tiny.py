"""The quickstart's loop on a tiny random model: every stage runs, meets the next on disk, and is not run twice."""

from pathlib import Path

import pytest

from plaudit.core.files import read_jsonl
from plaudit.core.run import read_inputs, read_summary
from plaudit.quickstart import loop
from plaudit.quickstart.loop import JUDGE_LABELERS, REWARD_LABELERS, QuickstartConfig, headline, run, split_content

STAGES = ("sft", "answers", "reward-labels", "judge-labels", "reward", "judge", "ppo", "evaluation")


def config_for(folder: Path, model: Path) -> QuickstartConfig:
    return QuickstartConfig(
        run=folder,
        model=str(model),
        precision="float32",
        train_layers=2,
        test_prompts=6,
        choose_prompts=126,
        answers=3,
        test_answers=2,
        max_new_tokens=12,
        sft_epochs=1,
        reward_epochs=1,
        ppo_iterations=1,
        ppo_prompts=4,
    )


def prompts_of(file: Path) -> set[str]:
    return {row["prompt"][0]["content"] for row in read_jsonl(file)}


def test_the_three_parts_share_no_prompt(tmp_path: Path, tiny_policy_folder: Path) -> None:
    train, choose, test, practice = map(prompts_of, split_content(config_for(tmp_path, tiny_policy_folder)))
    assert (len(choose), len(test)) == (126, 6)
    assert not train & choose | train & test | choose & test
    assert train < practice
    assert not practice & choose | practice & test


def test_the_reward_model_and_the_judge_have_labelers_of_their_own() -> None:
    assert not set(REWARD_LABELERS) & set(JUDGE_LABELERS)


def test_the_whole_loop_runs_once(tmp_path: Path, tiny_policy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_for(tmp_path / "q", tiny_policy_folder)
    assert run(config) == config.run
    for stage in STAGES:
        assert read_summary(config.run / stage), stage
    assert (config.run / "report.html").stat().st_size > 10_000
    assert "95 % interval" in headline(config.run)

    # Training saw no test prompt, and the true preference is named by no stage but the last.
    test = prompts_of(config.run / "data" / "test.jsonl")
    for stage in ("answers", "reward-labels", "judge-labels"):
        for file in (config.run / stage).glob("*s.jsonl"):
            assert not any("prompt" in row and row["prompt"][0]["content"] in test for row in read_jsonl(file)), file
    for stage in STAGES[:-1]:
        assert "true_preference" not in (config.run / stage / "config.yaml").read_text(), stage
        assert not any("true_preference" in name for name in read_inputs(config.run / stage)["inputs"]), stage

    # The same command again: no stage loads a model.
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a finished stage was run again")

    monkeypatch.setattr("plaudit.models.load._load", refuse)
    monkeypatch.setattr(loop, "compare_policies", refuse)
    before = {stage: (config.run / stage / "summary.json").stat().st_mtime_ns for stage in STAGES}
    run(config)
    assert before == {stage: (config.run / stage / "summary.json").stat().st_mtime_ns for stage in STAGES}
