"""What stands before every page: answers that a browser treats with suspicion, and requests that are refused unread.

Model answers are hostile input on a page where people are signed in. Sanitising (`text.py`) is the first wall; the
content security policy sent here is the second, which holds when the first has a hole: no inline script or style, no
foreign origin, no string that becomes code (Trusted Types).
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

KIB: Final = 1024
# A demonstration may hold 200,000 characters, of which each takes up to nine bytes in a form.
BODY_LIMIT: Final = 2 * KIB * KIB
# Longer bodies, by the beginning of the path. Files for import are read as a stream and checked there.
BODY_LIMITS: Final[Mapping[str, int]] = dict.fromkeys(
    ("/admin/import", "/admin/bias", "/admin/batches/choose"), 64 * KIB * KIB
)

Problem = Callable[[Request, int, str, str], Response]
"""Makes the answer to a request that failed: request, HTTP status, stable code, sentence."""


class Guard:
    """The outermost layer: refuses cross-site writes and giant bodies, and puts the headers on whatever is answered.

    It also turns an unexpected exception into the 500 page. Starlette would answer that one outside of all layers, and
    so without the headers.
    """

    def __init__(self, app: ASGIApp, *, problem: Problem, hosts: frozenset[str] | None, https: bool) -> None:
        self.app = app
        self.problem = problem
        self.hosts = hosts
        self.https = https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._add_headers(MutableHeaders(scope=message), request.url.path)
            await send(message)

        refusal = self._refusal(request)
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
            return
        try:
            await self.app(scope, limited(receive, _limit(request.url.path)), send_guarded)
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)
            if started:
                raise
            answer = self.problem(request, 500, "internal", "The server made a mistake. Nothing was changed by it.")
            await answer(scope, receive, send_guarded)

    def _add_headers(self, headers: MutableHeaders, path: str) -> None:
        for name, value in HEADERS.items():
            headers[name] = value
        # Pages hold people's work: on a shared machine the next person must not get them with the back button.
        headers["Cache-Control"] = "no-cache" if path.startswith("/static/") else "no-store"
        if self.https:
            headers["Strict-Transport-Security"] = "max-age=31536000"

    def _refusal(self, request: Request) -> Response | None:
        if self.hosts is not None and request.url.hostname not in self.hosts:
            # A foreign name that resolves to this machine (DNS rebinding) is not this site.
            return self.problem(request, 421, "wrong_host", "This server does not answer to that host name.")
        if request.method not in SAFE_METHODS and not is_same_origin(request.headers, scheme=request.url.scheme):
            return self.problem(
                request,
                403,
                "cross_site",
                "This request came from another site, so nothing was done. Open the page itself.",
            )
        limit = _limit(request.url.path)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limit:
            return self.problem(request, 413, "too_large", _too_large(limit))
        return None


def is_same_origin(headers: Headers, *, scheme: str) -> bool:
    """Whether a request that changes something was sent by our own page, or by a program that is no browser.

    Browsers say where a request comes from (`Sec-Fetch-Site`, or `Origin` in old ones), and no page can forge it. A
    request with a bearer token carries nothing that a browser adds by itself, so it needs no such proof.
    """
    if headers.get("authorization", "").lower().startswith("bearer "):
        return True
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(headers.get("origin", ""))
    return (origin.scheme, origin.netloc) == (scheme, headers.get("host", ""))


def limited(receive: Receive, limit: int) -> Receive:
    """`receive` that stops at `limit` bytes, for bodies that come without their length or lie about it."""
    taken = 0

    async def counting() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise HTTPException(413, _too_large(limit))
        return message

    return counting


def _limit(path: str) -> int:
    return next((limit for start, limit in BODY_LIMITS.items() if path.startswith(start)), BODY_LIMIT)


def _too_large(limit: int) -> str:
    return f"That is more than the {limit // (KIB * KIB)} MB this page accepts. Send less at once."
