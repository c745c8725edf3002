"""One finding of `plaudit doctor`."""

from typing import Literal, NamedTuple


class Check(NamedTuple):
    """What was looked at, what was found, and what to do about it."""

    level: Literal["ok", "warning", "error"]
    name: str
    value: str
    remedy: str = ""


def ok(name: str, value: str) -> Check:
    """As it should be."""
    return Check("ok", name, value)


def warning(name: str, value: str, remedy: str) -> Check:
    """It works, but not as well as it could, or not as one would expect."""
    return Check("warning", name, value, remedy)


def error(name: str, value: str, remedy: str = "") -> Check:
    """It does not work, or gives wrong results. Errors of Plaudit's own bring their remedy in `value`."""
    return Check("error", name, value, remedy)
