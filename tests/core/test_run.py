import json
import math
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from plaudit.core.config import Config
from plaudit.core.errors import RunError
from plaudit.core.run import Run, is_run, read_config, read_environment, read_inputs, read_log, read_summary


class Optimizer(Config):
    learning_rate: float = Field(1e-5, description="Peak learning rate.")


class Recipe(Config):
    seed: int = Field(0, description="Seed.")
    run: str = Field("runs/test", description="Run folder.")
    system: str | None = Field(None, description="System message.")
    optimizer: Optimizer = Field(Optimizer(), description="Optimizer.")


INPUTS = {"data": "abc", "model": "def"}


def open_run(path: Path, config: Config | None = None, inputs: dict[str, str] | None = None, stage: str = "sft") -> Run:
    return Run.open(path, stage=stage, config=config or Recipe(), inputs=inputs or INPUTS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "one"


def test_a_new_run_records_what_it_was_given(folder: Path) -> None:
    with open_run(folder, Recipe(seed=5, system="Être bref: non\n")) as run:
        assert not run.finished
        assert (run.path, run.stage) == (folder, "sft")
    assert is_run(folder)
    assert read_config(folder) == {
        "seed": 5,
        "run": "runs/test",
        "system": "Être bref: non\n",
        "optimizer": {"learning_rate": 1e-5},
    }
    assert read_inputs(folder) == {"stage": "sft", "inputs": INPUTS}
    environment = read_environment(folder)
    assert environment["seeds"] == {"seed": 5}
    assert environment["packages"]["torch"]
    assert environment["python"].startswith("3.")
    assert environment["cores"] >= 1
    assert (
        "torch"
        not in subprocess.run(
            [sys.executable, "-c", "import sys, plaudit.core.run; print([m for m in sys.modules if m == 'torch'])"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


def test_the_same_settings_continue(folder: Path) -> None:
    with open_run(folder) as run:
        run.log(1, loss=0.5)
    with open_run(folder, Recipe(run="moved/elsewhere")) as run:
        assert not run.finished
        run.log(2, loss=0.25)
        assert run.read_metrics() == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    assert len(read_environment(folder)["continued"]) == 1


def test_other_settings_or_inputs_are_refused_by_name(folder: Path) -> None:
    open_run(folder).close()
    before = {path: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
    other = Recipe(seed=7, optimizer=Optimizer(learning_rate=2e-5))
    with pytest.raises(RunError) as caught:
        open_run(folder, other, {"data": "abc", "model": "xyz", "judge": "new"}, stage="ppo")
    message = str(caught.value)
    for line in (
        "stage: sft in the folder, ppo now",
        "seed: 0 in the folder, 7 now",
        "optimizer.learning_rate: 1.0e-05 in the folder, 2.0e-05 now",
        "input model: def in the folder, xyz now",
        "input judge: absent in the folder, new now",
        "Give another run=",
    ):
        assert line in message
    assert "data:" not in message
    assert {path: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"} == before
    open_run(folder).close()  # the refused attempt left it unlocked and unharmed


def test_a_finished_run_stays_as_it_is(folder: Path) -> None:
    with open_run(folder) as run:
        run.log(1, loss=0.5)
        with pytest.raises(RunError, match="is not finished"):
            run.summary()
        run.finish({"win_rate": {"mean": 0.6, "interval": (0.5, 0.7)}, "model": Path("model")})
    run = open_run(folder)
    assert run.finished
    assert run.summary() == {"win_rate": {"mean": 0.6, "interval": [0.5, 0.7]}, "model": "model"}
    for write in (lambda: run.log(2, loss=1.0), lambda: run.sample(2, text="t"), lambda: run.finish({})):
        with pytest.raises(RunError, match="is finished"):
            write()
    assert len(read_log(folder, "metrics")) == 1
    assert read_summary(folder) == run.summary()


def test_a_folder_with_something_else_in_it_is_left_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"not empty: it holds thesis\.txt"):
        open_run(folder)
    assert (folder / "thesis.txt").read_text() == "mine"
    assert not is_run(folder)


def test_a_start_that_was_killed_before_it_was_a_run_begins_anew(folder: Path) -> None:
    open_run(folder).close()
    (folder / "config.yaml").unlink()
    with open_run(folder, Recipe(seed=9)):
        assert read_config(folder)["seed"] == 9


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_metrics_read_back_to_the_same_bits(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    with open_run(tmp_path_factory.mktemp("runs") / "bits") as run:
        for step, value in enumerate(values):
            run.log(step, value=value)
        read = [row["value"] for row in run.read_metrics()]
    assert [struct.pack("d", value) for value in read] == [struct.pack("d", value) for value in values]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused_by_name(folder: Path, value: float) -> None:
    with open_run(folder) as run:
        with pytest.raises(RunError, match=r"policy_loss is (nan|-?inf)"):
            run.log(1, reward=1.0, policy_loss=value)
        with pytest.raises(RunError, match=r"summary\.parts\[1\]\.kl is (nan|-?inf)"):
            run.finish({"parts": [{"kl": 0.0}, {"kl": value}]})
        assert run.read_metrics() == []
        assert not run.finished


def test_scalars_with_an_item_become_numbers_and_other_objects_an_error(folder: Path) -> None:
    numpy = pytest.importorskip("numpy")
    with open_run(folder) as run:
        run.log(1, loss=numpy.float32(0.1), count=numpy.int64(3), kl=None)
        assert run.read_metrics() == [{"step": 1, "loss": float(numpy.float32(0.1)), "count": 3, "kl": None}]
        with pytest.raises(RunError, match="nan"):
            run.log(2, loss=numpy.float32("nan"))
        with pytest.raises(RunError, match="texts is a set"):
            run.sample(2, texts={"a"})


def test_a_stage_without_steps_is_timed_whenever_it_stops(folder: Path) -> None:
    with open_run(folder) as run:
        with pytest.raises(KeyboardInterrupt), run.timed("sample"):
            raise KeyboardInterrupt
        with run.timed("sample"):
            pass
    rows = read_log(folder, "timings")
    assert [row["step"] for row in rows] == [0, 0]
    assert all(0 <= row["sample"] < 60 for row in rows)


def test_rewind_drops_what_came_after(folder: Path) -> None:
    with open_run(folder) as run:
        for step in range(1, 6):
            run.log(step, loss=1 / step)
            run.log_time(step, seconds=0.1)
            run.sample(step, text=f"text {step}")
        run.rewind(3)
        assert [row["step"] for row in run.read_metrics()] == [1, 2, 3]
        assert run.read_metrics()[2] == {"step": 3, "loss": 1 / 3}
        assert [row["text"] for row in read_log(folder, "samples")] == ["text 1", "text 2", "text 3"]
        assert len(read_log(folder, "timings")) == 3
        run.log(4, loss=0.0)
        run.rewind(-1)
        assert run.read_metrics() == []
        run.log(0, loss=0.0)


def test_going_back_without_rewind_is_an_error(folder: Path) -> None:
    with open_run(folder) as run:
        run.log(5, loss=1.0)
        run.log(5, validation_loss=1.0)
    with open_run(folder) as run:
        with pytest.raises(RunError, match=r"goes to step 5; a row of step 3 .* rewind\(2\)"):
            run.log(3, loss=1.0)
        run.rewind(2)
        run.log(3, loss=1.0)


@pytest.mark.parametrize("torn", ['{"step": 2, "lo', '{"step": 2, "loss": 0.25}', "{"])
def test_a_torn_last_line_is_forgotten(folder: Path, torn: str) -> None:
    with open_run(folder) as run:
        run.log(1, loss=0.5)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(torn)
    assert read_log(folder, "metrics") == [{"step": 1, "loss": 0.5}]
    with open_run(folder) as run:
        run.log(2, loss=0.125)
        assert run.read_metrics() == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.125}]


def test_a_damaged_line_elsewhere_is_an_error(folder: Path) -> None:
    with open_run(folder) as run:
        run.log(1, loss=0.5)
    (folder / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl:2 is damaged"):
        read_log(folder, "metrics")


HOLDER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_run import open_run
with open_run(Path(sys.argv[1])) as run:
    step = 0
    print("open", flush=True)
    while True:
        step += 1
        run.log(step, loss=1 / step, text="x" * 1000)
"""


def test_one_process_at_a_time_and_a_killed_one_leaves_no_lock(folder: Path) -> None:
    here = str(Path(__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), here], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            with pytest.raises(RunError, match=rf"being written by another process \(process {process.pid}\)"):
                open_run(folder)
        finally:
            process.send_signal(signal.SIGKILL)
    with open_run(folder) as run:
        rows = run.read_metrics()
        assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
        run.log(len(rows) + 1, loss=0.0)


def test_a_failed_attempt_in_this_process_does_not_lock_the_next_one_out(folder: Path) -> None:
    first = open_run(folder)
    second = open_run(folder)
    second.log(1, loss=0.0)
    second.close()
    first.close()


def test_half_written_files_of_killed_runs_are_removed(folder: Path) -> None:
    open_run(folder).close()
    with subprocess.Popen(["true"]) as process:
        process.wait()
    for parent in (folder, folder / "checkpoints"):
        parent.mkdir(exist_ok=True)
        (parent / f".model.plaudit-new-{process.pid}-0123abcd").mkdir()
    open_run(folder).close()
    assert os.listdir(folder / "checkpoints") == []
    assert not list(folder.glob(".model*"))


def test_a_place_where_no_run_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/plaudit/run")):
        with pytest.raises(RunError, match=r"Cannot write .* Remedy: "):
            open_run(path)


def test_reading_what_is_no_run(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    assert read_log(tmp_path, "metrics") == []
    with pytest.raises(RunError, match="a run folder\\?"):
        read_config(tmp_path)
    with pytest.raises(RunError, match="a run folder\\?"):
        read_summary(tmp_path)


def test_files_are_readable_by_people(folder: Path) -> None:
    open_run(folder, Recipe(system="Être bref")).close()
    assert "system: Être bref\n" in (folder / "config.yaml").read_text(encoding="utf-8")
    assert json.loads((folder / "inputs.json").read_text())["stage"] == "sft"
