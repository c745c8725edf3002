"""The time of the labeling platform: whole milliseconds since 1970 in UTC."""

import time
from collections.abc import Generator
from contextlib import contextmanager

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_set_to: int | None = None


def now() -> int:
    """Milliseconds since 1970 in UTC."""
    return time.time_ns() // 1_000_000 if _set_to is None else _set_to


@contextmanager
def at(milliseconds: int) -> Generator[None]:
    """For tests: the time stands still at `milliseconds`, in every thread of this process."""
    global _set_to  # noqa: PLW0603 (a context variable would not reach the threads of a server under test)
    before = _set_to
    _set_to = milliseconds
    try:
        yield
    finally:
        _set_to = before
