"""Times as people read them. The server writes UTC; `page.js` rewrites them in the reader's own time zone."""

from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup


def moment(milliseconds: int) -> Markup:
    """A point in time, as a `<time>` element."""
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        at.isoformat(timespec="seconds"), at.strftime("%Y-%m-%d %H:%M UTC")
    )


def duration(milliseconds: int) -> str:
    """A span of time in the largest unit that fits: "45 s", "12 min", "3 h", "2 days"."""
    seconds = round(milliseconds / 1000)
    for unit, length in (("day", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            count = round(seconds / length)
            return f"{count} {unit}s" if unit == "day" and count != 1 else f"{count} {unit}"
    return f"{seconds} s"


FILTERS: Final[dict[str, Any]] = {"moment": moment, "duration": duration}
