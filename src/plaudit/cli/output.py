"""Files that commands write for the user."""

from pathlib import Path

from plaudit.core.errors import RunError
from plaudit.core.files import explain_write_errors, make_folder


def check_free(out: Path, *, overwrite: bool) -> None:
    """Find out before the work, not after it, whether its result can be written.

    Raises:
        RunError: `out` exists, or cannot be made.
    """
    if out.exists() and not overwrite:
        raise RunError(f"{out} exists. Give another out=, or overwrite=true to replace it.")
    if out.is_dir():
        raise RunError(f"{out} is a folder. Give out= the name of a file.")
    make_folder(out.parent)
    probe = out.with_name(f".{out.name}.probe")
    with explain_write_errors(out):
        probe.touch()
        probe.unlink()
