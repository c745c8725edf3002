"""A clock that training runs on: stopped while weights are saved. Plain Python: both environments read it."""

import json
import time
from pathlib import Path
from typing import Any


class Stopwatch:
    """Seconds, by the wall and of the processor (all threads), between each `start` and the next `stop`."""

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0
        self._since: tuple[float, float] | None = None

    def start(self) -> None:
        """Go on; a running watch is left alone."""
        self._since = self._since or (time.perf_counter(), time.process_time())

    def stop(self) -> None:
        """Hold."""
        if self._since:
            self.seconds += time.perf_counter() - self._since[0]
            self.cpu_seconds += time.process_time() - self._since[1]
        self._since = None


class Course:
    """The course of one side's training in a folder: `times.jsonl`, and the weights of chosen rounds beside it."""

    def __init__(self, folder: Path, at: list[int], began: float) -> None:
        self.watch = Stopwatch()
        self.last = max(at)
        self._folder, self._at, self._began = folder, at, began
        self._waits = True

    def start(self) -> None:
        """Training begins, or goes on. What came before the first round is start-up."""
        if self._waits:
            self._waits = False
            self._write({"round": 0, "startup_seconds": time.time() - self._began})
        self.watch.start()

    def target(self, number: int) -> Path | None:
        """Stop the clock at the end of a round; where to save the weights, if they are wanted."""
        self.watch.stop()
        return self._folder / f"round-{number}" if number in self._at else None

    def note(self, number: int) -> None:
        """Write down a round, once its weights are saved."""
        self._write({"round": number, "seconds": self.watch.seconds, "cpu_seconds": self.watch.cpu_seconds})

    def _write(self, row: dict[str, Any]) -> None:
        with (self._folder / "times.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
