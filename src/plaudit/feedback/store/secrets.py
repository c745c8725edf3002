"""A project's secrets: generated, kept apart from the database, readable by their owner only."""

import hashlib
import hmac
import json
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from plaudit.core.errors import ConfigError
from plaudit.core.files import explain_write_errors

FILE = "secrets.json"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What nobody but the project's server may know."""

    master: str = field(repr=False)  # 64 hexadecimal digits
    database_password: str | None = field(default=None, repr=False)

    def key(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose; none tells anything about another."""
        return hmac.new(bytes.fromhex(self.master), purpose.encode(), hashlib.sha256).digest()


def create_secrets(folder: Path, *, database_password: str | None = None) -> Secrets:
    """Generate secrets and write them. Raises RunError if there are some already, or the folder refuses."""
    made = Secrets(secrets.token_hex(32), database_password)
    record = {"master": made.master} | ({"database_password": database_password} if database_password else {})
    path = folder / FILE
    with explain_write_errors(path):
        # Nobody else may read it at any moment, so the mode is given at birth.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(descriptor)
    return made


def read_secrets(folder: Path) -> Secrets:
    """The project's secrets.

    Raises ConfigError if they are missing, weak, no JSON, or readable by others.
    """
    path = folder / FILE
    try:
        mode = path.stat().st_mode
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing. Restore it from a backup: group answers and gold questions depend on it."
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}). Restore it from a backup.") from None
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"{path} can be read by other users of this machine. Close it: chmod 600 {path}")
    entries: dict[str, Any] = cast(dict[str, Any], record) if isinstance(record, dict) else {}
    master = entries.get("master")
    if not isinstance(master, str) or not _is_strong(master):
        raise ConfigError(
            f"The master secret in {path} is no random key of 64 hexadecimal digits. Restore the file from a backup."
        )
    password = entries.get("database_password")
    return Secrets(master, password if isinstance(password, str) else None)


def _is_strong(master: str) -> bool:
    # 64 random hexadecimal digits hold fewer than 10 different ones with a probability below 1e-13.
    digits = set("0123456789abcdef")
    return len(master) == 64 and set(master) <= digits and len(set(master)) >= 10
