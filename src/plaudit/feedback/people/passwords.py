"""Passwords: what may be one, and Argon2id hashes of them (RFC 9106).

One hash takes about a quarter of a second and 64 MiB on purpose. So hashing never happens inside a database
transaction, and never more than a few at a time: many sign-ins at once wait, they do not fill the memory.
"""

import secrets
import threading
import unicodedata
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from plaudit.feedback.errors import FeedbackError

MIN_CHARS = 10
MAX_CHARS = 200
AT_ONCE = 2
_WAIT_SECONDS = 20.0

hasher = PasswordHasher()
_slots = threading.BoundedSemaphore(AT_ONCE)


def check_password(password: str, *personal: str) -> None:
    """Refuse what is guessed first.

    personal: email and name, which must not make up the password.

    Raises FeedbackError "weak_password".
    """
    if not MIN_CHARS <= len(password) <= MAX_CHARS:
        raise _weak(f"The password has {len(password)} characters. Use {MIN_CHARS} to {MAX_CHARS}.")
    if len(set(password)) < 5:
        raise _weak("The password repeats a few characters. Use a sentence, or what a password manager makes.")
    plain = password.casefold()
    for word in personal:
        for part in (word.casefold(), word.casefold().partition("@")[0]):
            if len(part) >= 4 and part in plain:
                raise _weak("The password contains your name or email. Use something that others do not know.")


def hash_password(password: str) -> str:
    """The Argon2id hash, with its salt and parameters in it."""
    with _slot():
        return hasher.hash(_typed(password))


def verify_password(password_hash: str | None, password: str) -> bool:
    """Whether the password is right. Without a hash it does the same work and says no."""
    with _slot():
        try:
            right = hasher.verify(password_hash or nobodys_hash(), _typed(password[: MAX_CHARS + 1]))
        except (VerificationError, InvalidHashError):
            return False
    return right and password_hash is not None


def needs_rehash(password_hash: str) -> bool:
    """Whether the hash was made with weaker parameters than today's."""
    return hasher.check_needs_rehash(password_hash)


@cache
def nobodys_hash() -> str:
    """A hash that no password fits, for the work that an unknown account must cost too."""
    return hasher.hash(secrets.token_hex(32))


def _typed(password: str) -> str:
    # The same keys give composed letters on one machine and decomposed ones on another (RFC 8265).
    return unicodedata.normalize("NFKC", password).encode("utf-8", "replace").decode("utf-8")


def _weak(message: str) -> FeedbackError:
    return FeedbackError("weak_password", message, status=422)


@contextmanager
def _slot() -> Generator[None]:
    """One of the few places for hashing. Raises FeedbackError "busy" when none becomes free."""
    if not _slots.acquire(timeout=_WAIT_SECONDS):
        raise FeedbackError("busy", "Too many people sign in at this moment. Try again in a minute.", status=503)
    try:
        yield
    finally:
        _slots.release()
