"""What is wrong with single rows, gathered so that a user sees several faults at once instead of one a run."""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from plaudit.core.errors import DataError
from plaudit.core.records import Source

SHOWN = 5
MAX_DROPPED = 0.05


class RowProblem(Exception):  # noqa: N818 (a finding about one row; the error is the DataError made of them)
    """A row that cannot be used: the fact, the value and the remedy, without file and line."""


class DroppableRow(RowProblem):
    """A flaw of published data that its users cannot mend: such rows are dropped and counted while few."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Problems:
    """The problems met while reading one file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.total = 0
        self.dropped: Counter[str] = Counter()
        self._shown: list[str] = []
        self._shown_dropped: list[str] = []

    def add(self, source: Source, problem: RowProblem) -> None:
        """Note the problem of one row."""
        if isinstance(problem, DroppableRow):
            self.dropped[problem.cause] += 1
            shown = self._shown_dropped
        else:
            self.total += 1
            shown = self._shown
        if len(shown) < SHOWN:
            shown.append(f"{source}: {problem}")

    def raise_if_any(self, rows: int) -> None:
        """DataError naming the first few problems and their number; `rows` is how many rows the file has."""
        dropped = self.dropped.total()
        if dropped > MAX_DROPPED * rows:
            self.total += dropped
            self._shown = [*self._shown, *self._shown_dropped][:SHOWN]
        if not self.total:
            return
        more = f"\n  and {self.total - len(self._shown)} more" if self.total > len(self._shown) else ""
        lines = "".join(f"\n  {line}" for line in self._shown)
        raise DataError(f"{self.total} of {rows} rows of {self.path} cannot be used:{lines}{more}")


def missing_field(name: str, row: Mapping[str, Any]) -> RowProblem:
    """A field is not there: names the fields that are, and the one that was probably meant."""
    fields = [str(field) for field in row]
    near = difflib.get_close_matches(name, fields, n=1, cutoff=0.6)
    remedy = f"rename `{near[0]}` to `{name}`" if near else f"add `{name}`"
    return RowProblem(f"no field `{name}`; the row has {quoted(fields)}; {remedy}")


def quoted(names: Iterable[str]) -> str:
    """Field names for a message."""
    return ", ".join(f"`{name}`" for name in names) or "no fields"


def shown_value(value: Any) -> str:
    """A value, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
