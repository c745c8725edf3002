"""A file that was sent with a form, as a file on the disk for as long as it is read."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from starlette.datastructures import FormData, UploadFile

from plaudit.feedback.content.import_files import SUFFIXES
from plaudit.feedback.errors import FeedbackError


class Uploaded(NamedTuple):
    """Where it lies, under a name of ours, and what it is called."""

    path: Path
    name: str


@contextmanager
def uploaded(form: FormData, field: str) -> Iterator[Uploaded]:
    """The file of a form's field.

    Raises FeedbackError "no_file" if none was sent, or one of a kind that cannot be read.
    """
    sent = form.get(field)
    if not isinstance(sent, UploadFile) or not sent.filename:
        raise FeedbackError("no_file", "Choose a file first.", status=422)
    name = Path(sent.filename.replace("\\", "/")).name[:150]
    # The longest first: "x.jsonl.gz" is no ".gz" of nothing.
    suffix = next((one for one in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(one)), None)
    if suffix is None:
        raise FeedbackError("no_file", f"{name} is of an unknown kind. Send one of {', '.join(SUFFIXES)}.", status=422)
    with tempfile.TemporaryDirectory(prefix="plaudit-upload-") as folder:
        path = Path(folder) / f"upload{suffix}"  # never a name that came with a request
        with path.open("wb") as file:
            shutil.copyfileobj(sent.file, file)
        yield Uploaded(path, name)
