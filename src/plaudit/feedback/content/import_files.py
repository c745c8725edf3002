"""A file that somebody wants to import, read and checked line by line. Nothing here touches the database.

Files come from outside: what they may cost is bounded before they are parsed (size, compression, nesting), and every
fault is told with its line, so that a person can repair the file in one go.
"""

import gzip
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from plaudit.core.errors import DataError
from plaudit.core.files import sha256_file
from plaudit.core.records import Prompt, Source, user_prompt
from plaudit.datasets.fields import text
from plaudit.datasets.problems import DroppableRow, RowProblem, missing_field, shown_value
from plaudit.datasets.read import detect_kind, records_of
from plaudit.datasets.sources import parquet_bytes, raw_rows
from plaudit.feedback.store.tables import MAX_CHARS, MAX_RESPONSES

ImportKind = Literal["prompts", "responses", "rankings", "demonstrations"]
SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")

MAX_BYTES = 2**30  # of a file, decompressed
MAX_WHOLE = 2**26  # the same for .json, which is read at once
MAX_RATIO = 100  # decompressed to compressed; honest text stays below 30
RATIO_FROM = 2**20  # bytes; below, a high ratio harms nobody
MAX_DEPTH = 20  # of nested objects and lists in a row
MAX_PROBLEMS = 200  # that are told one by one


class LineProblem(NamedTuple):
    """What is wrong with one row. Line 0: with the file."""

    line: int
    message: str


class Row(NamedTuple):
    """A row that can be imported: what `datasets` made of it, and the raw row for what that leaves out."""

    line: int
    record: Any  # PromptRow, Answered, Ranking, Comparison, Demonstration or PromptScore
    raw: Mapping[str, Any]


class Answered(NamedTuple):
    """A prompt with answers that nobody has judged yet."""

    prompt: Prompt
    responses: tuple[str, ...]


@dataclass(slots=True)
class Checked:
    """A file as it would be imported.

    sha256:   of the file as it lies on the disk.
    problems: of rows that cannot be used, the first `MAX_PROBLEMS`; `faulty` counts all.
    left_out: rows and answers that hold no judgment, or that published data is known to get wrong, by cause.
    """

    name: str
    sha256: str
    kind: ImportKind | Literal["scores"]
    rows: list[Row] = field(default_factory=list[Row])
    problems: list[LineProblem] = field(default_factory=list[LineProblem])
    faulty: int = 0
    left_out: Counter[str] = field(default_factory=Counter[str])

    def add_problem(self, line: int, message: str) -> None:
        """Note a row that cannot be imported."""
        self.faulty += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(LineProblem(line, message))

    def raise_if_faulty(self) -> None:
        """DataError with the first problems, if there are any: a file is imported whole or not at all."""
        if not self.faulty:
            return
        shown = "".join(f"\n  {self.name}:{line}: {message}" for line, message in self.problems[:10])
        more = f"\n  and {self.faulty - 10} more" if self.faulty > 10 else ""
        raise DataError(
            f"{self.faulty} of {self.faulty + len(self.rows)} rows of {self.name} cannot be imported, so nothing was:"
            f"{shown}{more}"
        )


def check_file(path: Path, kind: ImportKind, *, name: str | None = None) -> Checked:
    """Read a whole file as `kind`. Faults of rows are in the result, not raised.

    name: what the file is called to people, where it lies under a temporary name.

    Raises:
        DataError: the file cannot be read at all, or is larger than an import may be.
    """
    checked = begin(path, kind, name)
    return read_rows(path, checked, lambda raw, source: _read(raw, kind, source, checked))


def begin(path: Path, kind: ImportKind | Literal["scores"], name: str | None) -> Checked:
    """The file with nothing read yet. Raises DataError if it is larger than an import may be, or no such file."""
    called = Path(name or path.name).name[:150]
    check_size(path, called)
    return Checked(called, sha256_file(path), kind)


def read_rows(path: Path, checked: Checked, read: Callable[[Mapping[str, Any], Source], Iterable[Any]]) -> Checked:
    """Fill `checked` with what `read` makes of each raw row. It raises RowProblem for rows that cannot be used."""
    for source, found in raw_rows(str(path)):
        try:
            if isinstance(found, RowProblem):
                raise found
            _check_depth(found, MAX_DEPTH)
            checked.rows += [Row(source.line, record, found) for record in read(found, source)]
        except DroppableRow as problem:
            checked.left_out[problem.cause] += 1
        except RowProblem as problem:
            checked.add_problem(source.line, str(problem))
    if not checked.rows and not checked.faulty:
        raise DataError(f"{checked.name} holds no {checked.kind}. {_explain(checked.left_out)}")
    return checked


def check_size(path: Path, called: str) -> None:
    """Raises DataError for a file that is missing, of an unknown kind, or too large or too compressed to be honest."""
    if not path.is_file():
        raise DataError(f"{called} is no file. Give one of these kinds: {', '.join(SUFFIXES)}.")
    if not path.name.endswith(SUFFIXES):
        raise DataError(f"{called} is of an unknown kind. Give one of these: {', '.join(SUFFIXES)}.")
    limit = MAX_WHOLE if path.name.endswith((".json", ".json.gz")) else MAX_BYTES
    packed = path.stat().st_size
    size = packed
    if path.suffix == ".gz":
        size = _unpacked_size(path, called, limit)
    elif path.suffix == ".parquet":
        size = parquet_bytes(path)
    if size > RATIO_FROM and size > MAX_RATIO * packed:
        raise DataError(f"{called} is compressed more than {MAX_RATIO} times, as no honest text is. Unpack it first.")
    if size > limit:
        raise DataError(f"{called} holds more than the {limit // 2**20} MiB that are imported at once. Split it.")


def _unpacked_size(path: Path, called: str, limit: int) -> int:
    """Bytes after decompression, counted until it is too many."""
    size = 0
    packed = path.stat().st_size
    try:
        with gzip.open(path, "rb") as stream:
            while part := stream.read(2**20):
                size += len(part)
                if size > limit or (size > RATIO_FROM and size > MAX_RATIO * packed):
                    break
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{called} is a damaged gzip file ({error}). Copy or compress it again.") from None
    return size


def _check_depth(value: Any, left: int) -> None:
    if isinstance(value, str):
        return
    if isinstance(value, dict | list):
        if left == 0:
            raise RowProblem(f"the row is nested more than {MAX_DEPTH} deep; write it flatter")
        inside = cast(dict[str, Any], value).values() if isinstance(value, dict) else cast(list[Any], value)
        for inner in inside:
            _check_depth(inner, left - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise RowProblem(f"the row holds {value}, which is no number in JSON; remove it")


def _read(raw: Mapping[str, Any], kind: ImportKind, source: Any, checked: Checked) -> Iterator[Any]:
    if kind == "responses":
        records: list[Any] = [_answered(raw, source)]
    elif kind == "prompts":
        records = records_of(raw, "prompt", source, checked.left_out)
    else:
        records = records_of(raw, _told(raw, kind), source, checked.left_out)
    for record in records:
        _check_texts(record)
        yield record


def _told(raw: Mapping[str, Any], kind: ImportKind) -> Any:
    wanted = ("demonstration",) if kind == "demonstrations" else ("ranking", "comparison")
    told = detect_kind(raw)
    if told not in wanted:
        fields = ", ".join(f"`{name}`" for name in raw)
        raise RowProblem(f"the row is no {' or '.join(wanted)}; it has {fields or 'no fields'}")
    return told


def _answered(raw: Mapping[str, Any], source: Any) -> Answered:
    items = raw.get("responses")
    if items is None and raw.get("response") is not None:
        items = [raw["response"]]
    if items is None:
        raise missing_field("responses", raw)
    if not isinstance(items, list) or not items:
        raise RowProblem(f"`responses` is {shown_value(items)}; write a list of answers")
    texts = [
        text(cast(dict[str, Any], item).get("text") if isinstance(item, dict) else item, f"responses[{place}]")
        for place, item in enumerate(cast(list[Any], items), start=1)
    ]
    prompt = raw.get("prompt")
    if isinstance(prompt, str):
        return Answered(user_prompt(text(prompt, "prompt")), tuple(texts))
    return Answered(records_of({"prompt": prompt}, "prompt", source, Counter())[0].prompt, tuple(texts))


def _check_texts(record: Any) -> None:
    """What no database keeps, or what a task cannot hold."""
    _check_text("".join(message.content for message in record.prompt), "prompt")
    texts = getattr(record, "responses", None) or [
        value for name in ("chosen", "rejected", "response") if (value := getattr(record, name, None)) is not None
    ]
    for value in texts:
        _check_text(value, "response")
    if hasattr(record, "ranks") and len(texts) > MAX_RESPONSES:
        raise RowProblem(f"{len(texts)} responses are ranked at once; at most {MAX_RESPONSES} can be")


def _check_text(value: str, what: str) -> None:
    if len(value) > MAX_CHARS:
        raise RowProblem(f"the {what} has {len(value):,} characters; shorten it to at most {MAX_CHARS:,}")
    if "\0" in value:
        raise RowProblem(f"the {what} holds the character NUL (U+0000); remove it")


def _explain(left_out: Counter[str]) -> str:
    if not left_out:
        return "It has no rows."
    return "Left out: " + ", ".join(f"{cause}: {count}" for cause, count in left_out.most_common()) + "."
