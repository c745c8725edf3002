"""The split of the E2E example: no prompt and no labeler on two sides."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from e2e_rows import write_data

from plaudit.core.errors import DataError
from plaudit.core.files import read_jsonl


def parts(module: ModuleType, source: Path, folder: Path, *, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    files = module.prepare(source, folder, seed=seed, choose=3, test=5, demonstrations=2)
    return {name: list(read_jsonl(path)) for name, path in files._asdict().items()}


def test_no_prompt_and_no_labeler_is_on_two_sides(e2e_data: ModuleType, tmp_path: Path) -> None:
    found = parts(e2e_data, write_data(tmp_path / "source"), tmp_path / "out")
    prompts = {name: {row["prompt"] for row in rows} for name, rows in found.items()}
    assert len(prompts["test"]) == 5
    assert len(prompts["choose"]) == 3
    for stage in ("sft", "choose", "ppo", "reward", "judge"):
        assert not prompts[stage] & prompts["test"], stage
    assert not prompts["choose"] & (prompts["sft"] | prompts["ppo"])
    assert prompts["reward_test"] | prompts["judge_test"] <= prompts["test"]
    labelers = {
        name: {row["labeler"] for row in found[name]} for name in ("reward", "reward_test", "judge", "judge_test")
    }
    assert not (labelers["reward"] | labelers["reward_test"]) & (labelers["judge"] | labelers["judge_test"])


def test_every_quality_ranking_is_used_once(e2e_data: ModuleType, tmp_path: Path) -> None:
    found = parts(e2e_data, write_data(tmp_path / "source"), tmp_path / "out")
    assert sum(len(found[name]) for name in ("reward", "reward_test", "judge", "judge_test")) == 60
    assert all(row["ranks"] == [2, 1, 2] for name in ("reward", "judge") for row in found[name])


def test_the_seed_alone_decides(e2e_data: ModuleType, tmp_path: Path) -> None:
    source = write_data(tmp_path / "source")
    assert parts(e2e_data, source, tmp_path / "a") == parts(e2e_data, source, tmp_path / "b")
    assert parts(e2e_data, source, tmp_path / "a") != parts(e2e_data, source, tmp_path / "c", seed=1)


def test_a_leak_and_a_missing_file_are_refused(e2e_data: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leak"):
        parts(e2e_data, write_data(tmp_path / "source", shared=True), tmp_path / "out")
    with pytest.raises(DataError, match=r"demonstrations\.jsonl\.gz"):
        parts(e2e_data, tmp_path / "nowhere", tmp_path / "out")
