"""The menu."""

from typing import Final, NamedTuple

from plaudit.feedback.people.members import Account, Role


class Entry(NamedTuple):
    """A line of the menu: where it leads, its label, who sees it (and those above)."""

    path: str
    label: str
    role: Role


class Shown(NamedTuple):
    """A line as the page shows it."""

    path: str
    label: str
    current: bool


ENTRIES: Final = (
    Entry("/", "Home", "labeler"),
    Entry("/guidelines", "Guidelines", "labeler"),
    Entry("/history", "My work", "labeler"),
    Entry("/review", "Review", "reviewer"),
    Entry("/admin", "Admin", "admin"),
)


def entries_for(account: Account | None, path: str) -> list[Shown]:
    """The lines this account sees; the one it is at is marked."""
    if account is None:
        return []
    return [
        Shown(entry.path, entry.label, _holds(entry.path, path)) for entry in ENTRIES if account.is_at_least(entry.role)
    ]


def _holds(entry: str, path: str) -> bool:
    return path == entry or (entry != "/" and path.startswith(f"{entry}/"))
