"""kill -9 at any moment of sampling, then the same command: the same file as when left in peace, and nothing twice."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

import forked
from plaudit.cli.generate import GENERATE
from plaudit.core.config import load_config
from plaudit.core.errors import Interrupted, RunError
from plaudit.core.files import read_jsonl, write_jsonl
from plaudit.core.run import read_summary
from plaudit.rollouts import answers as stage
from plaudit.rollouts.answers import SampleConfig, generate
from plaudit.rollouts.sampling import Sampling

PROMPTS = 300
REWARD = "def short(prompts, responses):\n    return [-float(len(text)) for text in responses]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Prompts and a reward."""
    write_jsonl(tmp_path / "prompts.jsonl", ({"prompt": f"say {number} or {7 * number}"} for number in range(PROMPTS)))
    (tmp_path / "rules.py").write_text(REWARD)
    return tmp_path


def run_stage(model: Path, folder: Path, name: str, best_of: int = 1, seed: int = 0) -> None:
    """The stage, with its run folder in `folder`."""
    _be_alone()
    generate(
        SampleConfig(
            run=folder / name,
            model=str(model),
            prompts=str(folder / "prompts.jsonl"),
            sampling=Sampling(n=2 // best_of, max_new_tokens=16),
            best_of=best_of,
            reward=f"{folder / 'rules.py'}:short" if best_of > 1 else None,
            seed=seed,
            precision="float32",
        )
    )


def run_command(model: Path, folder: Path, name: str, best_of: bool = False, *more: str) -> None:
    """`plaudit generate`, with its `out` in the folder `name`."""
    _be_alone()
    settings = [f"model={model}", f"prompts={folder / 'prompts.jsonl'}", f"out={folder / name / 'answers.jsonl'}"]
    draws = ["best_of=2", f"reward={folder / 'rules.py'}:short"] if best_of else ["n=2"]
    GENERATE.run(
        load_config(GENERATE.settings(), None, [*settings, *draws, "max_new_tokens=16", "precision=float32", *more])
    )


WAYS: dict[str, Callable[[Path, Path, str], None]] = {
    "stage": run_stage,
    "stage, best of 2": partial(run_stage, best_of=2),
    "command": run_command,
    "command, best of 2": partial(run_command, best_of=True),
}


def slowly(call: Callable[..., None], *where: object) -> None:
    """A moment after each prompt that is kept: on a busy machine the process would end before this one looks."""
    add = stage.Drawn.add

    def add_and_wait(self: stage.Drawn, place: int, one: stage.Answers) -> None:
        add(self, place, one)
        time.sleep(0.002)

    stage.Drawn.add = add_and_wait  # the process is a fork and ends with it
    call(*where)


@pytest.mark.parametrize("way", list(WAYS))
def test_killed_at_any_moment_and_started_again_it_writes_the_same(
    way: str, tiny_policy_folder: Path, folder: Path
) -> None:
    seed = time.time_ns() % 2**32
    print(f"moments of killing: random.Random({seed})")
    generator = random.Random(seed)
    call = partial(WAYS[way], tiny_policy_folder, folder)
    call("peaceful")
    kept = folder / "killed" / "answers.jsonl.partial"
    before: list[str] = []
    for times in range(3):
        process = forked.start(slowly, WAYS[way], tiny_policy_folder, folder, "killed")
        wanted = len(before) + generator.randrange(1, (PROMPTS - len(before)) // 4)
        if not kill_when(process, partial(holds, kept, wanted)):
            assert times > 0, "it ended before it was ever killed"
            break
        now = lines(kept)
        assert now[: len(before)] == before, "answers that were kept are drawn again"
        before = now
    places = [json.loads(line)["place"] for line in before[1:]]
    assert len(places) == len(set(places)) < PROMPTS
    call("killed")
    assert (folder / "killed" / "answers.jsonl").read_bytes() == (folder / "peaceful" / "answers.jsonl").read_bytes()
    assert not kept.exists()
    if way.startswith("stage"):
        assert read_summary(folder / "killed") == read_summary(folder / "peaceful")


@pytest.fixture
def half(tiny_policy_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an interrupted `plaudit generate` kept its answers."""
    return _interrupt(monkeypatch, partial(run_command, tiny_policy_folder, folder, "half"), folder / "half")


def test_a_torn_line_is_dropped_and_its_prompt_drawn_again(tiny_policy_folder: Path, folder: Path, half: Path) -> None:
    whole = half.read_bytes()
    half.write_bytes(whole[:-10])
    drawn = _count_prompts(partial(run_command, tiny_policy_folder, folder, "half"))
    assert drawn == PROMPTS - (whole.count(b"\n") - 1) + 1
    run_command(tiny_policy_folder, folder, "peaceful")
    assert (folder / "half" / "answers.jsonl").read_bytes() == (folder / "peaceful" / "answers.jsonl").read_bytes()


def test_a_changed_command_never_mixes(tiny_policy_folder: Path, folder: Path, half: Path) -> None:
    kept = half.read_bytes()
    with pytest.raises(RunError, match=r"seed: 0 in the file, 1 now\nGive the old values .* delete .*partial"):
        run_command(tiny_policy_folder, folder, "half", False, "seed=1")
    with open(folder / "prompts.jsonl", "a") as file:
        file.write('{"prompt": "one more"}\n')
    with pytest.raises(RunError, match=r"input prompts: .* in the file, .* now"):
        run_command(tiny_policy_folder, folder, "half")
    assert half.read_bytes() == kept
    run_command(tiny_policy_folder, folder, "half", False, "seed=1", "overwrite=true")
    run_command(tiny_policy_folder, folder, "peaceful", False, "seed=1")
    assert (folder / "half" / "answers.jsonl").read_bytes() == (folder / "peaceful" / "answers.jsonl").read_bytes()


def test_another_reward_chooses_among_the_answers_that_were_kept(tiny_policy_folder: Path, folder: Path) -> None:
    call = partial(run_command, tiny_policy_folder, folder, "best", True)
    (folder / "rules.py").write_text("def short(prompts, responses):\n    raise KeyboardInterrupt\n")
    with pytest.raises(Interrupted, match=f"{PROMPTS} of {PROMPTS} prompts are answered"):
        call()
    (folder / "rules.py").write_text(REWARD)
    assert _count_prompts(call) == 0
    for row in read_jsonl(folder / "best" / "answers.jsonl"):
        assert row["response"] == min(row["responses"], key=len)


def test_ctrl_c_says_how_to_go_on_and_the_stage_does(
    tiny_policy_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = partial(run_stage, tiny_policy_folder, folder, "run")
    kept = _interrupt(monkeypatch, call, folder / "run")
    finished = len(lines(kept)) - 1
    with pytest.raises(RunError, match="seed: 0 in the folder, 1 now"):
        call(seed=1)
    assert _count_prompts(call) == PROMPTS - finished
    assert not kept.exists()


def test_nothing_is_left_of_a_command_stopped_before_its_first_answer(
    tiny_policy_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "sample", _raise_interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_command(tiny_policy_folder, folder, "none")
    assert list((folder / "none").iterdir()) == []


def test_a_file_in_the_way_and_a_damaged_one_are_left_alone(tiny_policy_folder: Path, folder: Path, half: Path) -> None:
    damaged = half.read_bytes().replace(b'"finished"', b'"finished', 1)
    for content, message in ((damaged, "partial:2: no valid JSON.*Delete it"), (b"mine, no line feed", "in the way")):
        half.write_bytes(content)
        with pytest.raises(RunError, match=message):
            run_command(tiny_policy_folder, folder, "half")
        assert half.read_bytes() == content


def test_two_processes_never_write_the_same_answers(tiny_policy_folder: Path, folder: Path) -> None:
    kept = folder / "both" / "answers.jsonl.partial"
    process = forked.start(run_command, tiny_policy_folder, folder, "both")
    assert process.pid is not None
    wait_until(process, partial(holds, kept, 1))
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(RunError, match="written by another process"):
        run_command(tiny_policy_folder, folder, "both")
    os.kill(process.pid, signal.SIGCONT)
    process.join()
    assert process.exitcode == 0
    assert len(list(read_jsonl(folder / "both" / "answers.jsonl"))) == PROMPTS


def lines(file: Path) -> list[str]:
    """The complete lines of a file that may not be there."""
    try:
        return file.read_text().split("\n")[:-1]
    except FileNotFoundError:
        return []


def holds(file: Path, count: int) -> bool:
    return len(lines(file)) > count


def wait_until(process: BaseProcess, moment: Callable[[], bool]) -> None:
    while process.is_alive() and not moment():
        time.sleep(0.0002)


def kill_when(process: BaseProcess, moment: Callable[[], bool]) -> bool:
    """Kill the process at the moment. False if it ended before."""
    wait_until(process, moment)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _interrupt(monkeypatch: pytest.MonkeyPatch, call: Callable[[], None], folder: Path) -> Path:
    """Ctrl-C once some prompts are answered; the file of what was kept."""
    add = stage.Drawn.add

    def add_some(self: stage.Drawn, place: int, one: stage.Answers) -> None:
        add(self, place, one)
        if len(self.answers) == 40:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage.Drawn, "add", add_some)
        with pytest.raises(Interrupted, match=rf"40 of {PROMPTS} prompts are answered.* Go on with the same command"):
            call()
    kept = folder / "answers.jsonl.partial"
    assert len(lines(kept)) == 41
    return kept


def _count_prompts(call: Callable[[], None]) -> int:
    """How many prompts a call gives the engine."""
    counts: list[int] = []
    real = stage.sample

    def counting(policy: object, prompts: list[tuple[int, ...]], *more: object, **named: object) -> object:
        counts.append(len(prompts))
        return real(policy, prompts, *more, **named)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "sample", counting)
        call()
    return sum(counts)


def _raise_interrupt(*_arguments: object, **_named: object) -> None:
    raise KeyboardInterrupt


def _be_alone() -> None:
    import torch

    torch.set_num_threads(1)
