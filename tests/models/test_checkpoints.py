"""A checkpoint is whole or absent, and a damaged one is never loaded or skipped in silence."""

import itertools
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
import torch
from pydantic import Field

import forked
from faults import full_disk, ordinary_user
from plaudit.core.config import Config
from plaudit.core.errors import RunError
from plaudit.core.run import Run
from plaudit.models.checkpoints import load_latest, remove_checkpoints, save_checkpoint


class Settings(Config):
    run: Path = Field(description="Run folder.")


def open_run(path: Path) -> Run:
    return Run.open(path, stage="test", config=Settings(run=path), inputs={})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path / "run")


def tensors(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight.a": torch.randn(30, 20, generator=generator),
        "weight.b": torch.randn(7, generator=generator).to(torch.bfloat16),
        "transposed": torch.randn(4, 6, generator=generator).T,
        "step": torch.tensor(float(seed)),
    }


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_what_is_loaded_is_what_was_saved(run: Run) -> None:
    assert load_latest(run) is None
    folder = save_checkpoint(run, 120, tensors(3), {"kl": 0.1 + 0.2, "best": [1, None, "x"]})
    assert folder == run.path / "checkpoints" / "step-000120"
    loaded = load_latest(run)
    assert loaded is not None
    assert (loaded.step, loaded.state) == (120, {"kl": 0.1 + 0.2, "best": [1, None, "x"]})
    assert loaded.tensors.keys() == tensors(3).keys()
    for name, tensor in tensors(3).items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert torch.equal(loaded.tensors[name], tensor)


def test_older_ones_go_when_the_newer_one_is_there(run: Run) -> None:
    for step in (5, 10, 1_000_000):
        save_checkpoint(run, step, tensors(step), {}, keep=2)
    assert sorted(p.name for p in (run.path / "checkpoints").iterdir()) == ["step-000010", "step-1000000"]
    loaded = load_latest(run)
    assert loaded is not None
    assert loaded.step == 1_000_000
    remove_checkpoints(run)
    assert load_latest(run) is None


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
def test_a_flipped_bit_anywhere_is_found(run: Run, name: str) -> None:
    save_checkpoint(run, 1, tensors(1), {})
    folder = save_checkpoint(run, 2, tensors(2), {}, keep=2)
    content = (folder / name).read_bytes()
    for place in (0, len(content) // 3, len(content) - 2):
        flipped = bytearray(content)
        flipped[place] ^= 1
        (folder / name).write_bytes(flipped)
        with pytest.raises(RunError) as caught:
            load_latest(run)
        assert "Damaged checkpoint" in str(caught.value)
        assert str(folder) in str(caught.value)
        assert "to go on from step 1" in str(caught.value)
    (folder / name).write_bytes(content)
    loaded = load_latest(run)
    assert loaded is not None
    assert loaded.step == 2


def test_a_wrong_hash_is_told_with_both_hashes(run: Run) -> None:
    folder = save_checkpoint(run, 2, tensors(2), {})
    expected = json.loads((folder / "manifest.json").read_text())["state.safetensors"]["sha256"]
    content = bytearray((folder / "state.safetensors").read_bytes())
    content[-1] ^= 128
    (folder / "state.safetensors").write_bytes(content)
    with pytest.raises(RunError, match=rf"state\.safetensors has SHA-256 [0-9a-f]{{64}} instead of {expected}.*delete"):
        load_latest(run)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
def test_a_missing_file_is_an_error_that_names_it(run: Run, name: str) -> None:
    folder = save_checkpoint(run, 2, tensors(2), {})
    (folder / name).unlink()
    with pytest.raises(RunError, match=rf"{name}.*no older checkpoint: delete"):
        load_latest(run)


def test_deleting_the_damaged_one_goes_back_to_the_older(run: Run) -> None:
    save_checkpoint(run, 1, tensors(1), {})
    shutil.rmtree(save_checkpoint(run, 2, tensors(2), {}, keep=2))
    loaded = load_latest(run)
    assert loaded is not None
    assert loaded.step == 1


def test_a_full_disk_leaves_the_older_checkpoint_untouched(run: Run) -> None:
    older = snapshot(save_checkpoint(run, 1, tensors(1), {}))
    with full_disk(10_000), pytest.raises(RunError, match=r"Cannot write .*000002.*checkpoint of step 1 is untouched"):
        save_checkpoint(run, 2, {"weight": torch.zeros(10_000)}, {})
    assert [p.name for p in (run.path / "checkpoints").iterdir()] == ["step-000001"]
    assert snapshot(run.path / "checkpoints" / "step-000001") == older


def test_a_read_only_folder_is_a_clear_error() -> None:
    with tempfile.TemporaryDirectory() as parent:  # tmp_path is closed to other users
        os.chmod(parent, 0o755)
        run = open_run(Path(parent) / "run")
        older = snapshot(save_checkpoint(run, 1, tensors(1), {}))
        folder = run.path / "checkpoints"
        os.chmod(folder, 0o555)
        try:
            with (
                ordinary_user(),
                pytest.raises(RunError, match=r"Cannot write .*The checkpoint of step 1 is untouched"),
            ):
                save_checkpoint(run, 2, tensors(2), {})
        finally:
            os.chmod(folder, 0o755)
        assert [p.name for p in folder.iterdir()] == ["step-000001"]
        assert snapshot(folder / "step-000001") == older
        run.close()


def write_forever(path: Path) -> None:
    """One checkpoint after the other, until killed."""
    run = open_run(path)
    for step in itertools.count(1):
        save_checkpoint(run, step, {"weight": torch.full((1_000_000,), float(step))}, {"step": step})


def test_killed_at_any_moment_a_whole_checkpoint_remains(tmp_path: Path) -> None:
    """kill -9 while writing, renaming or removing: what is loaded is always some complete step."""
    for attempt in range(6):
        path = tmp_path / f"run-{attempt}"
        process = forked.start(write_forever, path)
        while not (path / "checkpoints").is_dir() or not any((path / "checkpoints").glob("step-*")):
            assert process.is_alive()
            time.sleep(0.001)
        time.sleep(0.013 * attempt)
        process.kill()
        process.join()
        run = open_run(path)
        loaded = load_latest(run)
        assert loaded is not None
        assert loaded.state == {"step": loaded.step}
        assert torch.equal(loaded.tensors["weight"], torch.full((1_000_000,), float(loaded.step)))
        assert all(folder.name.startswith("step-") for folder in (path / "checkpoints").iterdir())
        run.close()
