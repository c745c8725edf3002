"""kill -9 at any moment of a stage, then the same command: bit for bit the result of a run left in peace."""

import time
from pathlib import Path

import kill_harness as harness
import pytest


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return harness.write_data(tmp_path_factory.mktemp("kill") / "data")


@pytest.mark.parametrize("stage", list(harness.STAGES))
def test_killed_at_any_moment_and_resumed_ends_the_same(
    stage: str, tmp_path: Path, tiny_policy_folder: Path, data: Path
) -> None:
    generator = harness.random_generator()
    peaceful = harness.job(stage, tmp_path / "peaceful", policy=tiny_policy_folder, data=data)
    began = time.monotonic()
    harness.finish(peaceful)
    seconds = time.monotonic() - began
    expected = harness.results(peaceful.run)
    assert any(name.endswith("model.safetensors") for name in expected)

    disturbed = harness.job(stage, tmp_path / "disturbed", policy=tiny_policy_folder, data=data)
    rows = expected["metrics.jsonl"].count(b"\n")
    moments = {
        "run folder opened": harness.opened,
        "writing a checkpoint": harness.writing_checkpoint,
        "some rows logged": harness.logged(generator.randrange(1, rows // 2)),
        "any time": harness.after(generator.uniform(0, seconds / 4)),
        "writing another checkpoint": harness.writing_checkpoint,
        "more rows logged": harness.logged(generator.randrange(rows // 2, rows)),
        "writing the model": harness.writing_model,
    }
    half_written = 0
    for name, moment in moments.items():
        delay = generator.uniform(0, 0.001)
        killed = harness.kill_when(disturbed, moment, delay=delay)
        half_written += killed and moment is harness.writing_checkpoint
        print(f"{stage}: {name}, {delay * 1000:.1f} ms later: {'killed' if killed else 'had ended'}")
    assert half_written
    harness.finish(disturbed)
    found = harness.results(disturbed.run)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert not list(disturbed.run.rglob(".*plaudit-*"))
