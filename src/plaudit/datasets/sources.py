"""Raw rows out of JSON lines, JSON, CSV, Parquet, and Hugging Face data sets. Their meaning is decided elsewhere.

Every reader yields (where it is, what was found): an object, or a RowProblem where the row could not even be read.
"""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from plaudit.core.errors import DataError
from plaudit.core.files import sha256_file, sha256_tree
from plaudit.core.records import Source
from plaudit.datasets.fields import MAX_TEXT
from plaudit.datasets.problems import RowProblem, shown_value

MAX_LINE = MAX_TEXT
Found = tuple[Source, Any]

_STRUCTURED = ("prompt", "responses", "ranks", "messages", "chosen", "rejected", "completion")
_NUMBERS = ("weight", "margin", "label")
_SUFFIXES = ".jsonl, .jsonl.gz, .json, .json.gz, .csv, .csv.gz or .parquet"


def raw_rows(path: str) -> Iterator[Found]:
    """The rows of a file, a saved data set, or `hub:name[:split]`. Raises DataError if it cannot be opened."""
    if path.startswith("hub:"):
        yield from _data_set(_from_hub(path), path)
        return
    file = Path(path)
    if not file.exists():
        raise DataError(f"{path} does not exist. Give the path of a {_SUFFIXES} file, a folder, or hub:name:split.")
    if file.is_dir():
        yield from _data_set(_from_folder(file), path)
        return
    name = file.name.removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            yield from _parquet(file)
            return
        with gzip.open(file, "rb") if file.suffix == ".gz" else open(file, "rb") as stream:
            binary = cast(BinaryIO, stream)
            if name.endswith((".jsonl", ".ndjson")):
                yield from _json_lines(binary, path)
            elif name.endswith(".json"):
                yield from _json(binary, path)
            elif name.endswith(".csv"):
                yield from _csv(binary, path)
            else:
                raise DataError(f"{path}: unknown kind of file. Give a {_SUFFIXES} file.")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}). Copy or compress it again.") from None
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Check the path and its permissions.") from None


def content_hash(path: str) -> str:
    """SHA-256 of a file or folder; of a hub data set, which may change under its name, that of its rows."""
    if path.startswith("hub:"):
        total = hashlib.sha256()
        for _, row in raw_rows(path):
            total.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
        return total.hexdigest()
    return sha256_tree(Path(path)) if Path(path).is_dir() else sha256_file(Path(path))


def _json_lines(stream: BinaryIO, path: str) -> Iterator[Found]:
    offset = 0
    for number, (line, length) in enumerate(_lines(stream), start=1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip() or length > MAX_LINE:
            yield Source(path, number), _parse_line(line, length, offset)
        offset += length


def _lines(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Lines and their lengths in bytes. Of a line over the limit only the beginning is kept, so memory stays small."""
    while line := stream.readline(MAX_LINE + 1):
        length = len(line)
        part = line
        while not part.endswith(b"\n") and (part := stream.readline(MAX_LINE)):
            length += len(part)
        yield line, length


def _parse_line(line: bytes, length: int, offset: int) -> Any:
    if length > MAX_LINE:
        return RowProblem(
            f"the line has {length:,} bytes, more than the {MAX_LINE:,} allowed; "
            "is it one JSON object per line? If so, shorten its texts"
        )
    try:
        decoded = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return _not_utf8(error, line, offset)
    return _parse_json(decoded)


def _not_utf8(error: UnicodeDecodeError, line: bytes, offset: int) -> RowProblem:
    return RowProblem(
        f"byte 0x{line[error.start]:02x} at byte offset {offset + error.start:,} of the file is not UTF-8; "
        "save the file as UTF-8"
    )


def _parse_json(text: str) -> Any:
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        told = (
            f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        )
        return RowProblem(f"not JSON ({told}): {shown_value(text.strip())}; write one JSON object per line")
    return _checked_object(value)


def _checked_object(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    return RowProblem(f"the row is {shown_value(value)}; write an object with named fields")


def _json(stream: BinaryIO, path: str) -> Iterator[Found]:
    """A JSON array, or JSON lines under the name .json. In an array, the number of a row is its place from 1."""
    content = stream.read().removeprefix(b"\xef\xbb\xbf")
    if content.lstrip()[:1] != b"[":
        yield from _json_lines(io.BytesIO(content), path)
        return
    try:
        values = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: {_not_utf8(error, content, 0)}.") from None
    except (json.JSONDecodeError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 0
        raise DataError(f"{Source(path, line)}: not JSON ({error}). Write an array of objects.") from None
    for number, value in enumerate(values, start=1):
        yield Source(path, number), _checked_object(value)


def _csv(stream: BinaryIO, path: str) -> Iterator[Found]:
    lines = _decoded_lines(stream, path)
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}:{start}: not CSV ({error}). Put text with commas or quotes into quotes.") from None
        if header is None:
            header = cells
        elif len(cells) == len(header):
            yield Source(path, start), {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True)}
        elif cells:
            yield (
                Source(path, start),
                RowProblem(f"{len(cells)} cells under {len(header)} column names; put text with commas into quotes"),
            )


def _decoded_lines(stream: BinaryIO, path: str) -> Iterator[str]:
    offset = 0
    for number, (line, length) in enumerate(_lines(stream), start=1):
        if length > MAX_LINE:
            raise DataError(f"{path}:{number}: the line has {length:,} bytes, more than the {MAX_LINE:,} allowed.")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{number}: {_not_utf8(error, line, offset)}.") from None
        offset += length


def _cell(name: str, cell: str) -> Any:
    """A cell is text; lists are written as JSON in it. An empty cell of an optional column is no value."""
    if name in _NUMBERS:
        try:
            return float(cell) if cell.strip() else None
        except ValueError:
            return cell
    if name in _STRUCTURED and cell.lstrip().startswith("["):
        try:
            value = json.loads(cell)
        except ValueError:
            return cell
        # A prompt may be text that happens to be a JSON list; messages are told by their objects.
        chat = name not in ("responses", "ranks") and all(isinstance(item, dict) for item in value)
        return value if chat or name in ("responses", "ranks") else cell
    return cell


def _parquet(file: Path) -> Iterator[Found]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                number += 1
                yield Source(str(file), number), row
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{file} is a damaged Parquet file ({error}). Write it again.") from None


def parquet_bytes(file: Path) -> int:
    """Bytes of a Parquet file's columns once they are unpacked. Raises DataError."""
    import pyarrow
    import pyarrow.parquet

    try:
        parts = pyarrow.parquet.ParquetFile(file).metadata
        return sum(parts.row_group(number).total_byte_size for number in range(parts.num_row_groups))
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{file} is a damaged Parquet file ({error}). Write it again.") from None


def _data_set(data_set: Any, path: str) -> Iterator[Found]:
    for number, row in enumerate(data_set, start=1):
        yield Source(path, number), row


def _from_folder(folder: Path) -> Any:
    import datasets

    splits = sorted(part.parent.name for part in folder.glob("*/dataset_info.json"))
    if splits:
        raise DataError(f"{folder} holds the splits {', '.join(splits)}. Name one: {folder / splits[0]}.")
    if not (folder / "dataset_info.json").exists():
        raise DataError(f"{folder} is no saved data set (it has no dataset_info.json). Name one of its files instead.")
    return datasets.load_from_disk(str(folder))


def _from_hub(path: str) -> Any:
    import datasets

    name, _, split = path.removeprefix("hub:").partition(":")
    if not name:
        raise DataError(f"{path} names no data set. Write hub:name or hub:name:split.")
    try:
        return datasets.load_dataset(name, split=split or "train")
    except Exception as error:
        # The library raises errors of many kinds (connection, unknown name, unknown split, bad file).
        raise DataError(
            f"Cannot load {path} ({type(error).__name__}: {error}). Check the name, the split and the connection, "
            "or download the data set and give its path."
        ) from error
