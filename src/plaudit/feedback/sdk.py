"""A thin client of the JSON API: what a labeler does on the pages, for scripts and other programs.

```python
with Client("https://label.example.org", token) as client:
    while task := client.claim():
        client.submit(task, {"tiers": {response["id"]: 1 for response in task["responses"]}})
```

Requests that failed on the way, or that the server asks to send again, are sent again with growing waits. That is safe:
a claim gives the open task again, and a submit carries the idempotency key of its task, so that it counts once.
"""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self, cast

import httpx

from plaudit.core.errors import PlauditError

TIMEOUT_S: Final = 30.0
FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0
AGAIN: Final = frozenset({429, 502, 503, 504})

Task = dict[str, Any]
Answer = Mapping[str, Any]


class ApiError(PlauditError):
    """The server refused. `code` is stable, such as "lease_lost"; `status` is the HTTP status."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({code}, {status})")
        self.status = status
        self.code = code


class Client:
    """A member's access to a project. Not for several threads at once; make one for each.

    tries: how often a request is sent at most.
    """

    def __init__(
        self,
        address: str,
        token: str,
        *,
        tries: int = 6,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http = httpx.Client(
            base_url=f"{address.rstrip('/')}/api/v1/",
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
            transport=transport,
        )
        self._tries = tries
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def me(self) -> dict[str, Any]:
        """Whose token this is."""
        return self._call("GET", "me")

    def claim(self, *, batch_id: str | None = None, purpose: str = "work") -> Task | None:
        """The open task or the next one; None if there is nothing to do."""
        return self._call("POST", "claims", {"batch_id": batch_id, "purpose": purpose}) or None

    def read(self, assignment_id: str) -> Task:
        """A task as it stands now."""
        return self._call("GET", f"assignments/{assignment_id}")

    def submit(self, task: Task, answer: Answer, *, active_ms: int | None = None) -> dict[str, Any]:
        """Submit an answer to a claimed task.

        answer: {"tiers": {response id: 1 …}} with, if wanted, "none_acceptable", "flags", "reason", "confidence"; or
                {"text": …} for a demonstration.
        """
        body = {"lease_no": task["lease_no"], "answer": dict(answer), "active_ms": active_ms}
        key = {"Idempotency-Key": task["idempotency_key"]}
        return self._call("POST", f"assignments/{task['id']}/submit", body, key)

    def save_draft(self, task: Task, payload: Answer, *, revision: int) -> int:
        """Keep what is done so far over draft number `revision` (0: none). Returns the new number."""
        body = {"revision": revision, "payload": dict(payload)}
        return self._call("POST", f"assignments/{task['id']}/draft", body)["revision"]

    def heartbeat(self, task: Task) -> int:
        """Keep the task. Returns until when, in milliseconds UTC."""
        return self._call("POST", f"assignments/{task['id']}/heartbeat", {"lease_no": task["lease_no"]})[
            "lease_expires_at"
        ]

    def skip(self, task: Task, reason: str) -> None:
        """Leave the task to others: unclear, too_long, not_my_field, distressing or broken."""
        self._call("POST", f"assignments/{task['id']}/skip", {"reason": reason})

    def release(self, task: Task) -> None:
        """Give the task back for now."""
        self._call("POST", f"assignments/{task['id']}/release")

    def undo(self, submission_id: str) -> str:
        """Take back what was just submitted. Returns the id of the task, open again."""
        return self._call("POST", f"submissions/{submission_id}/undo")["assignment_id"]

    def history(self, *, page: int = 1) -> dict[str, Any]:
        """What was submitted, newest first."""
        return self._call("GET", f"history?page={page}")

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        for attempt in range(1, self._tries + 1):
            wait = min(FIRST_WAIT_S * 2 ** (attempt - 1), LONGEST_WAIT_S)
            try:
                answer = self._http.request(method, path, json=body, headers=headers)
            except httpx.TransportError as error:
                if attempt == self._tries:
                    where = f"{self._http.base_url}{path}"
                    raise ApiError(0, "unreachable", f"{where} did not answer in {attempt} tries: {error}") from error
            else:
                if answer.status_code not in AGAIN or attempt == self._tries:
                    return _read(answer)
                wait = _asked_wait(answer, wait)
            self._sleep(wait)
        raise AssertionError("a request is tried at least once")


def _asked_wait(answer: httpx.Response, wait: float) -> float:
    asked = answer.headers.get("retry-after", "")
    return min(max(wait, float(asked)), LONGEST_WAIT_S) if asked.isdecimal() else wait


def _read(answer: httpx.Response) -> dict[str, Any]:
    if answer.status_code == 204:
        return {}
    try:
        body: object = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ApiError(answer.status_code, "no_json", "The server's answer is no JSON. Is this the address of Plaudit?")
    found = cast(dict[str, Any], body)
    if answer.is_error:
        raise ApiError(answer.status_code, str(found.get("code", "")), str(found.get("detail", answer.reason_phrase)))
    return found
