"""Errors of the labeling platform, which a page shows and the API returns."""

from plaudit.core.errors import PlauditError


class FeedbackError(PlauditError):
    """A request that cannot be granted.

    code:   stable name for programs, such as "lease_lost", "stale_draft" or "throttled".
    status: HTTP status that says the same.
    """

    def __init__(self, code: str, message: str, *, status: int = 409) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
