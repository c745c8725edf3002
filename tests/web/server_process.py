"""`plaudit label` as a process of its own, as people start it; and one that dies and comes back."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest


def start(*arguments: str) -> subprocess.Popen[str]:
    """The command, not waited for."""
    command = [sys.executable, "-c", "from plaudit.cli.app import main; main()", "label", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server and its address."""
    process = start(*arguments)
    try:
        yield process, _address(process)
    finally:
        process.kill()
        process.communicate()


def _address(process: subprocess.Popen[str]) -> str:
    """Where it listens, once it does."""
    return read_line(process, r"served at (http://\S+?)\.? ?(?:Open|$)")[1]


def read_line(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """The next line of what it says that holds the pattern."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if found := re.search(pattern, line):
            return found
    pytest.fail(f"the server ended: {said}")


class MortalServer:
    """A server that can be killed, and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lives = 0
        self._process, self.address = self._begin("0")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def kill(self) -> str:
        """SIGKILL: no request is finished, nothing is flushed, no connection is closed. Returns what it had said."""
        self._process.kill()
        return self._process.communicate()[1]

    def start_again(self) -> None:
        self._process, _ = self._begin(str(self.port))

    def _begin(self, port: str) -> tuple[subprocess.Popen[str], str]:
        self.lives += 1
        process = start(str(self.folder), f"port={port}")
        return process, _address(process)
