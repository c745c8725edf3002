"""The manifest beside a data file: what a snapshot promised about it.

`rankings.jsonl` with a `rankings.manifest.json` beside it is a snapshot of a labeling project. Whoever reads the file
is told when it is no longer what was promised; without a manifest a file is simply a file.
"""

import json
from pathlib import Path
from typing import NamedTuple

from plaudit.core.errors import DataError
from plaudit.core.files import sha256_file


class Manifest(NamedTuple):
    """The part of a manifest that readers of the data need."""

    name: str
    version: int
    sha256: str  # of the data file

    @property
    def label(self) -> str:
        """Name and version, as run folders and people call the snapshot."""
        return f"{self.name} v{self.version}"


def manifest_path(path: Path) -> Path:
    """Where the manifest of a data file lies."""
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.manifest.json")


def read_manifest(path: Path) -> Manifest | None:
    """The manifest of a data file, None if it has none.

    Raises:
        DataError: there is one, and it cannot be read.
    """
    file = manifest_path(path)
    if path.suffix != ".jsonl" or not file.is_file():
        return None
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        return Manifest(str(tree["name"]), int(tree["version"]), str(tree["sha256"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} is no manifest of a snapshot ({type(error).__name__}: {error}). Export the snapshot again, or "
            "remove the manifest to use the file without its promise."
        ) from None


def check_manifest(path: str) -> str | None:
    """The label of the snapshot that a path holds; None for anything else.

    Raises:
        DataError: the file is not what its manifest says; the data set was changed after it was made.
    """
    file = Path(path)
    manifest = None if path.startswith("hub:") else read_manifest(file)
    if manifest is None or not file.is_file():
        return None
    found = sha256_file(file)
    if found != manifest.sha256:
        raise DataError(
            f"{path} was changed after snapshot {manifest.label} was made: its hash is {found[:12]}…, the manifest "
            f"says {manifest.sha256[:12]}…. A snapshot never changes: make a new one with `plaudit snapshot`, or take "
            "the file of the project again."
        )
    return manifest.label
