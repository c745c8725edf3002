"""What is answered when something cannot be done: a page for people, `application/problem+json` for programs."""

from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from plaudit.core.errors import PlauditError
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.people.throttle import Throttled
from plaudit.web.visit import SignInNeeded, Site

TITLES: Final[dict[int, str]] = {
    400: "That cannot be done",
    401: "Please sign in",
    403: "That is not allowed",
    404: "There is nothing here",
    405: "That cannot be done here",
    409: "Something changed in the meantime",
    413: "That is too large",
    421: "Wrong address",
    422: "Something is missing or not understood",
    429: "Too fast",
    500: "The server made a mistake",
    503: "Busy for a moment",
}
FOR_PROGRAMS: Final = ("/api/", "/metrics", "/healthz", "/readyz")  # paths that answer in JSON
BUSY_S: Final = 2


def problem(request: Request, status: int, code: str, detail: str, retry_after: int | None = None) -> Response:
    """The answer to a request that failed. `code` is stable, for programs; `detail` is a sentence for people."""
    title = TITLES.get(status, HTTPStatus(status).phrase)
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    if request.url.path.startswith(FOR_PROGRAMS):
        body = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}
        return JSONResponse(body, status, headers, media_type="application/problem+json")
    site: Site = request.app.state.site
    html = site.templates.get_template("problem.html").render(
        account=None,
        navigation=[],
        note=None,
        path=request.url.path,
        project_name=site.project.name,
        status=status,
        title=title,
        detail=detail,
    )
    return HTMLResponse(html, status, headers)


def install(app: FastAPI) -> None:
    """Answer every expected error of the site with its problem."""

    def refused(request: Request, error: FeedbackError) -> Response:
        busy = BUSY_S if error.status == 503 else None
        wait = error.retry_after if isinstance(error, Throttled) else busy
        return problem(request, error.status, error.code, str(error), wait)

    def impossible(request: Request, error: PlauditError) -> Response:
        return problem(request, 400, "invalid", str(error))

    def http(request: Request, error: HTTPException) -> Response:
        plain = {404: "There is no such page.", 405: "This address does not take such requests."}
        code = HTTPStatus(error.status_code).name.lower()
        return problem(request, error.status_code, code, plain.get(error.status_code, str(error.detail)))

    def invalid(request: Request, error: RequestValidationError) -> Response:
        return problem(request, 422, "invalid", "; ".join(_sentence(item) for item in error.errors()))

    def busy(request: Request, _: OperationalError) -> Response:
        return problem(
            request, 503, "busy", "The database did not answer in time. Nothing was changed; try again.", BUSY_S
        )

    def sign_in(request: Request, _: SignInNeeded) -> Response:
        if request.method != "GET":
            return problem(
                request,
                401,
                "sign_in",
                "You are signed out, so this was not done. Sign in in another tab, then send it again.",
            )
        return RedirectResponse(f"/sign-in?{urlencode({'next': _address(request)})}", 303)

    handlers: dict[type[Exception], Any] = {
        FeedbackError: refused,
        PlauditError: impossible,
        HTTPException: http,
        RequestValidationError: invalid,
        OperationalError: busy,
        SignInNeeded: sign_in,
    }
    for error, handler in handlers.items():
        app.add_exception_handler(error, handler)


def _address(request: Request) -> str:
    return f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path


def _sentence(item: dict[str, Any]) -> str:
    # Never `item["input"]`: what was sent may hold a password.
    return f"{'.'.join(str(part) for part in item['loc'][1:]) or 'body'}: {item['msg']}"
