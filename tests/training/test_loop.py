"""The order of the data, interruption and the checkpoint clock."""

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from plaudit.core.errors import Interrupted
from plaudit.core.records import Stop
from plaudit.training import loop
from plaudit.training.loop import CheckpointClock, Interrupts, Moment, Plan, call_hooks, epoch_order, stop_interrupted


@pytest.mark.parametrize(("rows", "batch_size"), [(10, 3), (9, 3), (2, 5), (100, 16), (1, 1)])
def test_every_epoch_visits_every_row_once_in_batches_of_nearly_equal_size(rows: int, batch_size: int) -> None:
    plan = Plan(rows, batch_size, epochs=3, seed=1)
    for epoch in range(3):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        batches = [plan.batch(step) for step in steps]
        assert sorted(row for batch in batches for row in batch) == list(range(rows))
        sizes = [len(batch) for batch in batches]
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
    assert plan.steps == 3 * len(sizes)


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else() -> None:
    order = epoch_order(50, seed=1, epoch=2)
    assert order == epoch_order(50, seed=1, epoch=2)
    assert order != epoch_order(50, seed=2, epoch=2)
    assert order != epoch_order(50, seed=1, epoch=3)


def test_the_clock_counts_steps_or_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [step for step in range(1, 10) if CheckpointClock(steps=4).due(step)] == [4, 8]
    now = 1000.0
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now))
    clock = CheckpointClock(minutes=10)
    due = []
    for step in range(1, 8):
        now += 250.0
        if clock.due(step):
            due.append(step)
    assert due == [3, 6]


def test_the_first_interruption_raises_a_flag_and_the_second_acts(request: pytest.FixtureRequest) -> None:
    # A shell's background processes start with Ctrl-C ignored, and the second one would go nowhere.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, inherited))
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        assert not interrupts.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_is_an_interruption_too_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.requested
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_nothing_is_touched() -> None:
    seen: list[object] = []

    def work() -> None:
        with Interrupts() as interrupts:
            seen.append(interrupts.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def test_the_message_says_how_to_go_on(tmp_path: Path) -> None:
    run = SimpleNamespace(path=tmp_path / "run")
    with pytest.raises(Interrupted, match=r"after step 3 of 9.*plaudit sft --config .*run/config\.yaml"):
        stop_interrupted(run, "sft", 3, 9)  # type: ignore[arg-type]


def test_every_hook_is_called_and_the_first_reason_counts() -> None:
    called: list[str] = []

    def hook(name: str, answer: Stop | None) -> loop.Hook:
        def call(_moment: Moment) -> Stop | None:
            called.append(name)
            return answer

        return call

    moment = Moment(1, {}, None, None)  # type: ignore[arg-type]
    hooks = [hook("a", None), hook("b", Stop("enough")), hook("c", Stop("later"))]
    assert call_hooks(hooks, moment) == Stop("enough")
    assert called == ["a", "b", "c"]
    assert call_hooks([], moment) is None
