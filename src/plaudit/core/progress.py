"""Progress and messages, all of it on standard error: standard output belongs to results.

On a terminal a bar with the time left; in a log file a plain line at most every ten seconds. `PLAUDIT_QUIET=1` or
`be_quiet()` silences both.
"""

import os
import time
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

SECONDS_BETWEEN_LINES = 10.0


class _Display:
    """The one live display of the process: bars of nested phases share it, because a terminal has one bottom."""

    bars: Bars | None = None
    users: int = 0


def be_quiet() -> None:
    """Silence progress and messages in this process and in those it starts."""
    os.environ["PLAUDIT_QUIET"] = "1"


def is_quiet() -> bool:
    return os.environ.get("PLAUDIT_QUIET", "") not in ("", "0")


def say(message: str | Text, *, style: str | None = None) -> None:
    """Tell the person at the terminal something, on standard error. `style` is a rich style such as "bold red".

    A `str` is printed as it is: square brackets in it are no markup.
    """
    if is_quiet():
        return
    console = _Display.bars.console if _Display.bars is not None else Console(stderr=True)
    console.print(message, style=style, markup=False, highlight=False, soft_wrap=True)


class Progress:
    """How far a phase has come.

    ```python
    with Progress("PPO", total=200) as progress:
        for step in range(200):
            ...
            progress.advance(reward=mean_reward, kl=mean_kl)
    ```

    `total=None` is for work of unknown length: a count without a time left. A resumed phase starts at `done`, which
    does not count into its speed.
    """

    def __init__(self, title: str, total: int | None, *, done: int = 0) -> None:
        self.title = title
        self.total = total
        self.done = done
        self._done_at_start = done
        self._figures = ""
        self._started = time.monotonic()
        self._last_line = self._started
        self._bars: Bars | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        self._started = self._last_line = time.monotonic()
        console = Console(stderr=True)
        if not is_quiet() and console.is_terminal:
            self._bars = _acquire_bars(console)
            self._task = self._bars.add_task(self.title, total=self.total, completed=self.done, figures="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop_task(self._task)
            self._bars = None
            _release_bars()
        elif not is_quiet():
            say(self._line())

    def advance(self, n: int = 1, **figures: float) -> None:
        """Count `n` more units as done, and show the latest figures beside them."""
        self.done += n
        if figures:
            self._figures = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())
        if self._bars is not None:
            self._bars.update(self._task, completed=self.done, figures=self._figures)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            say(self._line())

    def _line(self) -> str:
        elapsed = time.monotonic() - self._started
        parts = [f"{self.title}: {self.done}"]
        if self.total:
            parts[0] += f"/{self.total} ({self.done / self.total:.0%})"
        parts.append(f"elapsed {_clock(elapsed)}")
        advanced = self.done - self._done_at_start
        if self.total and advanced > 0 and self.done < self.total:
            parts.append(f"left {_clock(elapsed / advanced * (self.total - self.done))}")
        if self._figures:
            parts.append(self._figures)
        return ", ".join(parts)


def _acquire_bars(console: Console) -> Bars:
    if _Display.bars is None:
        _Display.bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
        )
        _Display.bars.start()
    _Display.users += 1
    return _Display.bars


def _release_bars() -> None:
    _Display.users -= 1
    if _Display.users == 0 and _Display.bars is not None:
        _Display.bars.stop()
        _Display.bars = None


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
