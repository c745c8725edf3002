"""Files that were checked and wait for "import": a browser cannot send the same file again by itself."""

import secrets
import shutil
import time
from pathlib import Path
from typing import Final

from plaudit.feedback.content.import_files import SUFFIXES
from plaudit.feedback.errors import FeedbackError

FOLDER: Final = "uploads"
LIFE_S: Final = 24 * 3600


def keep(project: Path, file: Path, suffix: str) -> str:
    """Keep a copy of a file for a day; returns the token by which `find` finds it. Older ones are deleted."""
    folder = project / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    for old in folder.iterdir():
        if old.stat().st_mtime < time.time() - LIFE_S:
            old.unlink(missing_ok=True)
    token = secrets.token_hex(16)
    shutil.copyfile(file, folder / f"{token}{suffix}")
    return token


def find(project: Path, token: str) -> Path:
    """The file of a token. Raises FeedbackError "not_found"."""
    if token.isalnum():  # no part of a path
        for suffix in SUFFIXES:
            path = project / FOLDER / f"{token}{suffix}"
            if path.is_file():
                return path
    raise FeedbackError("not_found", "That file is not kept any more. Send it again.", status=404)
