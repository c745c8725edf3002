"""Files that are either the old or the new version, never half of one, and never lost without a clear error.

Everything is written under a hidden temporary name beside its target, flushed to the disk, and renamed. A process that
is killed leaves only such a hidden name, which the next one recognises and removes.
"""

import errno
import gzip
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plaudit.core.errors import DataError, PlauditError, RunError

_LEFTOVER = re.compile(r"^\.(?P<name>.+)\.plaudit-(?P<kind>new|old)-(?P<pid>\d+)-[0-9a-f]{8}$")
_in_use: set[Path] = set()  # temporaries of this very process, so that cleaning up spares the work of another thread

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "your disk quota is used up: free some space",
    errno.EFBIG: "the file is larger than this system or its limits allow: raise the limit (ulimit -f)",
    errno.EROFS: "the file system is read-only: choose a folder elsewhere",
    errno.EACCES: "you may not write there: change the permissions or choose a folder elsewhere",
    errno.EPERM: "you may not write there: change the permissions or choose a folder elsewhere",
    errno.EEXIST: "a file of that name is in the way: choose another path",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another path",
    errno.EIO: "the disk reports an error: check its health and choose a folder elsewhere",
}


def cache_folder() -> Path:
    """Where what can be made again is kept: `PLAUDIT_CACHE`, else `~/.cache/plaudit`."""
    return Path(os.environ.get("PLAUDIT_CACHE", "~/.cache/plaudit")).expanduser()


def atomic_write(path: Path, data: str | bytes) -> None:
    """Write a whole file or nothing. Text is UTF-8. The parent folder is made if it is missing.

    Raises RunError if the disk is full, the folder read-only and so on; an existing file is then as it was.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    make_folder(path.parent)
    with explain_write_errors(path):
        clean_leftovers(path.parent, only=path.name)
        with _temporary(path, "new") as temporary:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Generator[Path, None, None]:
    """A folder that appears complete or not at all: write into the yielded one, it becomes `path` at the end.

    A folder already at `path` is replaced. If the body raises, or the process dies, it stays as it was.
    """
    make_folder(path.parent)
    with explain_write_errors(path):
        clean_leftovers(path.parent, only=path.name)
        with _temporary(path, "new") as temporary:
            temporary.mkdir()
            yield temporary
            for file in sorted(temporary.rglob("*")):
                _sync_folder(file) if file.is_dir() else _sync_file(file)
            _sync_folder(temporary)
            if path.exists():
                # A rename cannot replace a folder that holds something, so the old one steps aside first.
                # Killed between the two renames, `clean_leftovers` puts it back.
                with _temporary(path, "old") as old:
                    os.rename(path, old)
                    os.rename(temporary, path)
            else:
                os.rename(temporary, path)
            _sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and its parents where they are missing. Raises RunError, whatever the cause."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, error, "Nothing was overwritten") from error


def clean_leftovers(folder: Path, *, only: str | None = None) -> None:
    """Remove what killed processes left half-written in `folder` (for the target called `only`, or for all)."""
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir()):
        match = _LEFTOVER.match(entry.name)
        if match is None or only not in (None, match["name"]) or entry in _in_use or _alive(int(match["pid"])):
            continue
        target = folder / match["name"]
        if match["kind"] == "old" and not target.exists():
            os.rename(entry, target)
        else:
            _remove(entry)


def is_leftover(path: Path) -> bool:
    """Whether this is a half-written temporary rather than a file of the user's."""
    return _LEFTOVER.match(path.name) is not None


def append_line(path: Path, line: str) -> None:
    """Add one line to a log and hand it to the operating system: it survives `kill -9` of this process."""
    with explain_write_errors(path, "Earlier lines are unharmed"), open(path, "ab") as file:
        file.write(line.encode("utf-8") + b"\n")


def drop_torn_line(path: Path) -> None:
    """Cut off what a killed process wrote of its last line, so that the next line does not grow onto it."""
    if not path.exists():
        return
    content = path.read_bytes()
    complete = content.rfind(b"\n") + 1
    if complete < len(content):
        with explain_write_errors(path), open(path, "r+b") as handle:
            handle.truncate(complete)


def sha256_file(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(folder: Path) -> str:
    """SHA-256 over the names and contents of all files below `folder`; where the folder lies does not matter."""
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*"), key=lambda file: file.relative_to(folder).as_posix()):
        if file.is_file() and not any(is_leftover(part) for part in (file, *file.parents)):
            name = file.relative_to(folder).as_posix()
            total.update(f"{len(name)} {name} {sha256_file(file)}\n".encode())
    return total.hexdigest()


def json_line(record: Mapping[str, Any]) -> str:
    """One JSON object on one line, floats in the shortest form that reads back to the same bits.

    Raises ValueError for NaN and infinities, which JSON does not know.
    """
    return _json_text(record, indent=None)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write one JSON object atomically, indented for people."""
    atomic_write(path, _json_text(record, indent=2) + "\n")


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines atomically, compressed when the name ends in `.gz`."""
    text = "".join(json_line(record) + "\n" for record in records)
    # mtime=0: the same records give the same bytes, and so the same hash.
    atomic_write(path, gzip.compress(text.encode("utf-8"), mtime=0) if path.suffix == ".gz" else text)


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write lines atomically as they come, without holding them all; returns their number. Raises as `atomic_write`."""
    make_folder(path.parent)
    count = 0
    with explain_write_errors(path):
        clean_leftovers(path.parent, only=path.name)
        with _temporary(path, "new") as temporary:
            with open(temporary, "wb") as file:
                for line in lines:
                    file.write(line.encode("utf-8") + b"\n")
                    count += 1
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
    return count


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file, `.gz` or not, one at a time. Raises DataError naming file and line."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(
                    f"{path}:{number}: no valid JSON ({error}); write one JSON object on each line."
                ) from None
            if not isinstance(record, dict):
                raise DataError(f"{path}:{number}: found {line[:40]!r}; write one JSON object on each line.")
            yield record


def _json_text(record: Mapping[str, Any], indent: int | None) -> str:
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, indent=indent)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair, which only the escaped form can carry
        text = json.dumps(record, ensure_ascii=True, allow_nan=False, indent=indent)
    return text


@contextmanager
def _temporary(target: Path, kind: str) -> Generator[Path, None, None]:
    path = target.with_name(f".{target.name}.plaudit-{kind}-{os.getpid()}-{secrets.token_hex(4)}")
    _in_use.add(path)
    try:
        yield path
    finally:
        if kind == "old" and path.exists() and not target.exists():
            os.rename(path, target)
        _remove(path)
        _in_use.discard(path)


@contextmanager
def explain_write_errors(path: Path, unharmed: str = "Nothing was overwritten") -> Generator[None, None, None]:
    """Turn a refusal of the operating system to write into a RunError that says what to do."""
    try:
        yield
    except PlauditError:
        raise
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        raise _refused(path, error, unharmed) from error


def _refused(path: Path, error: OSError, unharmed: str) -> RunError:
    remedy = _REMEDIES.get(error.errno or 0, "choose another path")
    return RunError(
        f"Cannot write {path}: {error.strerror or error}. {unharmed}. "
        f"Remedy: {remedy}; then give the same command again."
    )


def _sync_file(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    """Whether another process of this number runs. Our own number on a leftover is from an earlier life."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
