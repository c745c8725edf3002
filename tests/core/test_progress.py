import pytest

from plaudit.core import progress
from plaudit.core.progress import Progress, be_quiet, say


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock.monotonic)
    monkeypatch.setenv("PLAUDIT_QUIET", "")
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return clock


def test_plain_lines_are_rare_and_tell_the_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("PPO", 100, done=40) as bar:
        for _ in range(30):
            clock.now += 1
            bar.advance(mean_reward=0.123456)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "PPO: 50/100 (50%), elapsed 0:00:10, left 0:00:50, mean reward 0.1235",
        "PPO: 60/100 (60%), elapsed 0:00:20, left 0:00:40, mean reward 0.1235",
        "PPO: 70/100 (70%), elapsed 0:00:30, left 0:00:30, mean reward 0.1235",
        "PPO: 70/100 (70%), elapsed 0:00:30, left 0:00:30, mean reward 0.1235",
    ]


def test_work_of_unknown_length_has_no_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("Reading", None) as bar:
        clock.now += 10
        bar.advance(7)
    assert capsys.readouterr().err.splitlines()[0] == "Reading: 7, elapsed 0:00:10"


@pytest.mark.usefixtures("clock")
def test_nested_bars_share_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    with Progress("PPO", 2) as outer:
        outer.advance()
        with Progress("Sampling [1/2]", 10) as inner:
            inner.advance(10, tokens=3)
            say("a message [bold] in between")
        outer.advance()
    out, err = capsys.readouterr()
    assert out == ""
    for text in ("PPO", "Sampling [1/2]", "a message [bold] in between", "2/2", "10/10", "tokens 3"):
        assert text in err


def test_quiet_means_quiet(clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAUDIT_QUIET", "")  # so that the change below is undone afterwards
    say("heard")
    be_quiet()
    say("unheard")
    with Progress("PPO", 3) as bar:
        clock.now += 99
        bar.advance()
    assert capsys.readouterr().err == "heard\n"
