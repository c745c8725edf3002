"""Answers kept as they are drawn, so that sampling that was killed goes on where it was.

The first line of the file says what the answers were drawn with, every other line holds all answers to one prompt. The
file lives only until the result is written.
"""

import fcntl
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from plaudit.core.errors import Interrupted, RunError
from plaudit.core.files import append_line, drop_torn_line, explain_write_errors, json_line, read_jsonl
from plaudit.core.progress import say
from plaudit.core.records import Prompt
from plaudit.core.run import list_differences
from plaudit.models.precision import Precision, choose_precision

_START = b'{"given": '


class Answers(NamedTuple):
    """The answers to one prompt; one value an answer in each of the other fields."""

    prompt: Prompt
    responses: tuple[str, ...]
    finished: tuple[bool, ...]
    """Whether it ended by itself, and not at the length limit."""
    tokens: tuple[int, ...]


class Drawn:
    """The answers so far, open for writing by this process alone. A context manager; Ctrl-C in it says how to go on."""

    def __init__(
        self,
        path: Path,
        prompts: Sequence[Prompt],
        given: Mapping[str, Any],
        precision: Precision,
        answers: dict[int, Answers],
        lock: IO[Any],
    ) -> None:
        """Use `Drawn.open`."""
        self.path = path
        self.answers = answers
        """By the place of their prompt."""
        self.precision = precision
        self._prompts = prompts
        self._given = given
        self._lock = lock

    @classmethod
    def open(
        cls, path: Path, prompts: Sequence[Prompt], *, given: Mapping[str, Any], precision: str, replace: bool = False
    ) -> Self:
        """The answers kept in `path`, or none yet.

        Args:
            given: settings and content hashes that decide the draws, in JSON's types. Answers drawn with others are
                refused, or thrown away with `replace`.
            precision: as a setting; "auto" is decided once, when the first answer is drawn.

        Raises:
            RunError: answers drawn with something else, a damaged file, or another process that writes it.
        """
        lock = _lock(path)
        try:
            _check_own(path)
            drop_torn_line(path)
            found, answers = _read(path, prompts)
            changed = list_differences("", found["given"], given, kept="file") if answers else []
            if changed and not replace:
                raise RunError(
                    f"{path} keeps answers to {len(answers)} prompts that were drawn with other settings or inputs:\n"
                    + "\n".join(f"  {line}" for line in changed)
                    + f"\nGive the old values to go on with them, or delete {path} to start anew."
                )
            if changed:
                say(f"{path}: thrown away, since its answers were drawn with other settings or inputs. Starting anew.")
            if changed or not answers:
                with explain_write_errors(path):
                    path.write_bytes(b"")
                chosen, answers = choose_precision(precision), dict[int, Answers]()
            else:
                chosen = choose_precision(found["precision"])
                say(f"{len(answers)} of {len(prompts)} prompts are answered already; going on ({path}).")
            return cls(path, prompts, given, chosen, answers, lock)
        except BaseException:
            lock.close()
            raise

    def add(self, place: int, answers: Answers) -> None:
        """Keep all answers to the prompt at `place`."""
        if not self.answers:
            append_line(self.path, json_line({"given": self._given, "precision": self.precision.name}))
        row = {"place": place} | {name: value for name, value in answers._asdict().items() if name != "prompt"}
        append_line(self.path, json_line(row))
        self.answers[place] = answers

    def remove(self) -> None:
        """Delete the file: the result is written."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self.answers:
            self.remove()
        self._lock.close()
        if isinstance(error, KeyboardInterrupt) and self.answers:
            raise Interrupted(
                f"Stopped: {len(self.answers)} of {len(self._prompts)} prompts are answered, and {self.path} keeps the "
                "answers. Go on with the same command."
            ) from error


def _lock(path: Path) -> IO[Any]:
    with explain_write_errors(path):
        file = open(path, "ab")  # noqa: SIM115 (open as long as the lock is held)
    try:
        # The kernel releases the lock when the process ends, however it ends.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise RunError(
            f"{path} is being written by another process. Wait for it, stop it, or give another out=."
        ) from None
    return file


def _check_own(path: Path) -> None:
    """A file of the user's that happens to have this name is left alone."""
    with open(path, "rb") as file:
        start = file.read(len(_START))
    if not _START.startswith(start):
        raise RunError(f"{path} is in the way: it holds no kept answers. Move it away, or give another out=.")


def _read(path: Path, prompts: Sequence[Prompt]) -> tuple[dict[str, Any], dict[int, Answers]]:
    try:
        rows = read_jsonl(path)
        header = next(rows, {"given": {}, "precision": "auto"})
        answers = {
            row["place"]: Answers(
                prompts[row["place"]] if row["place"] < len(prompts) else (),
                tuple(row["responses"]),
                tuple(row["finished"]),
                tuple(row["tokens"]),
            )
            for row in rows
        }
        return {"given": header["given"], "precision": header["precision"]}, answers
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error}). Delete it to start anew.") from None
