"""The outermost layer, around a small application: headers everywhere, cross-site writes and giant bodies refused."""

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, StreamingResponse

from plaudit.web.security import BODY_LIMIT, HEADERS, POLICY, Guard

ORIGIN = "http://127.0.0.1"


def make_client(**settings) -> TestClient:
    def problem(request, status, code, detail):
        assert isinstance(request, Request)
        assert detail
        return PlainTextResponse(code, status)

    guard = {"problem": problem, "hosts": None, "https": False, **settings}
    app = FastAPI(middleware=[Middleware(Guard, **guard)])

    @app.get("/")
    def read() -> str:
        return "read"

    @app.post("/")
    async def write(request: Request) -> int:
        return len(await request.body())

    @app.get("/broken")
    def broken() -> str:
        raise RuntimeError("secret detail")

    @app.get("/torn")
    def torn() -> StreamingResponse:
        def rows():
            yield b"first"
            raise RuntimeError("secret detail")

        return StreamingResponse(rows())

    return TestClient(app, base_url=ORIGIN, raise_server_exceptions=False)


@pytest.mark.parametrize("path", ["/", "/missing", "/broken"])
def test_headers_are_on_every_answer(path):
    answer = make_client().get(path)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert answer.headers["Cache-Control"] == "no-store"
    assert "secret" not in answer.text


def test_headers_are_on_refusals():
    answer = make_client().post("/", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert answer.headers["Content-Security-Policy"] == POLICY


def test_the_policy_allows_nothing_inline_and_nothing_foreign():
    assert "unsafe" not in POLICY
    assert "*" not in POLICY
    assert "http" not in POLICY
    assert "require-trusted-types-for 'script'" in POLICY


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": ORIGIN}, False),
        ({"Origin": ORIGIN}, True),
        ({"Origin": "https://127.0.0.1"}, False),
        ({"Origin": "http://127.0.0.1:8000"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({}, False),
        ({"Authorization": "Bearer x"}, True),
        ({"Authorization": "Basic x"}, False),
    ],
)
def test_only_our_own_pages_and_programs_may_write(headers, allowed):
    answer = make_client().post("/", headers=headers)
    assert (answer.status_code, answer.text) == ((200, "0") if allowed else (403, "cross_site"))


def test_reading_needs_no_origin():
    assert make_client().get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_giant_bodies_are_refused_unread():
    own = {"Origin": ORIGIN}
    assert make_client().post("/", content=b"x" * BODY_LIMIT, headers=own).status_code == 200
    assert make_client().post("/", content=b"x" * (BODY_LIMIT + 1), headers=own).text == "too_large"
    assert make_client().post("/", headers={**own, "Content-Length": "-1"}).status_code == 413


def test_bodies_without_a_length_are_counted():
    def parts():
        for _ in range(3):
            yield b"x" * (BODY_LIMIT // 2)

    assert make_client().post("/", content=parts(), headers={"Origin": ORIGIN}).status_code == 413


def test_foreign_host_names_are_refused():
    client = make_client(hosts=frozenset({"127.0.0.1"}))
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"Host": "rebound.example"}).status_code == 421


def test_an_answer_that_began_is_torn_and_not_mended():
    client = make_client()
    answer = client.get("/torn")
    assert answer.content in (b"first", b"")


def test_https_is_remembered_by_browsers():
    assert "Strict-Transport-Security" in make_client(https=True).get("/").headers
    assert "Strict-Transport-Security" not in make_client().get("/").headers
