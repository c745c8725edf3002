"""The JSON API, and the client that calls it."""

import json

import httpx
import pytest
from fastapi.testclient import TestClient
from sites import ORIGIN, Site

from plaudit.feedback.people import accounts
from plaudit.feedback.sdk import ApiError, Client


def token(site: Site, name: str = "labeler", scope: str = "work") -> str:
    with site.project.database.write() as connection:
        return accounts.create_token(connection, site.people[name], "test", [scope])


class ThroughApp(httpx.BaseTransport):
    """Brings requests to the application, and may lose the first replies on the way back."""

    def __init__(self, site: Site, *, lost: int = 0) -> None:
        self.inner = TestClient(site.app, base_url=ORIGIN)
        self.lost = lost
        self.sent = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += 1
        answer = self.inner.request(
            request.method, str(request.url), content=request.read(), headers=dict(request.headers)
        )
        if self.lost:
            self.lost -= 1
            raise httpx.ReadError("the connection broke", request=request)
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


def make_client(site: Site, *, lost: int = 0, name: str = "labeler") -> Client:
    return Client(ORIGIN, token(site, name), transport=ThroughApp(site, lost=lost), sleep=lambda _: None)


def in_order(task: dict) -> dict:
    return {"tiers": {response["id"]: place for place, response in enumerate(task["responses"], start=1)}}


def test_a_program_does_all_that_a_labeler_does(site):
    with make_client(site) as client:
        assert client.me()["pseudonym"] == "L-labeler"
        task = client.claim(batch_id=site.batches["Household questions"])
        assert task is not None
        assert client.save_draft(task, {"tiers": {}, "reason": "so far"}, revision=0) == 1
        assert client.read(task["id"])["draft"]["payload"]["reason"] == "so far"
        assert client.heartbeat(task) >= task["lease_expires_at"]
        receipt = client.submit(task, {**in_order(task), "reason": "Because.", "confidence": 5}, active_ms=900)
        assert receipt == {**receipt, "revision": 1, "replayed": False, "late": False}
        assert client.history()["items"][0]["submission_id"] == receipt["submission_id"]
        assert client.undo(receipt["submission_id"]) == task["id"]
        client.release(client.read(task["id"]))
        again = client.claim(batch_id=site.batches["Household questions"])
        assert again is not None
        assert again["id"] == task["id"]
        assert again["draft"]["payload"]["reason"] == "Because."
        client.skip(again, "unclear")
        written = client.claim(batch_id=site.batches["Write for the library"])
        assert written is not None
        client.submit(written, {"text": "An ideal answer."})


def test_lost_replies_lead_to_one_submission(site):
    with make_client(site) as client:
        task = client.claim(batch_id=site.batches["Household questions"])
        assert task is not None
    with make_client(site, lost=3) as client:
        assert client.submit(task, in_order(task))["replayed"] is True
        assert client.history()["total"] == 1


def test_nothing_to_do_is_none(site):
    with make_client(site) as client:
        assert client.claim(batch_id="0" * 32) is None


def test_a_server_that_is_gone_is_said(site):
    with make_client(site, lost=99) as client, pytest.raises(ApiError, match="did not answer in 6 tries") as caught:
        client.me()
    assert caught.value.code == "unreachable"


def test_waits_are_those_the_server_asks_for():
    waits: list[float] = []

    def answer(_: httpx.Request) -> httpx.Response:
        if len(waits) < 2:
            return httpx.Response(503, headers={"Retry-After": "7"}, json={"code": "busy"})
        return httpx.Response(200, json={"id": "x"})

    with Client(ORIGIN, "t", transport=httpx.MockTransport(answer), sleep=waits.append) as client:
        assert client.me() == {"id": "x"}
    assert waits == [7.0, 7.0]


def test_what_is_no_api_is_said():
    page = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>"))
    with Client(ORIGIN, "t", transport=page) as client, pytest.raises(ApiError, match="no JSON"):
        client.me()


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 403, "cross_site"),
        ({"Sec-Fetch-Site": "same-origin"}, 401, "sign_in"),
        ({"Authorization": "Bearer nonsense"}, 401, "bad_token"),
        ({"Authorization": "Bearer "}, 401, "bad_token"),
        ({"Authorization": "Basic x", "Sec-Fetch-Site": "same-origin"}, 401, "sign_in"),
    ],
)
def test_without_a_good_token_nothing_is_told(site, headers, status, code):
    answer = TestClient(site.app, base_url=ORIGIN).post("/api/v1/claims", json={}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_bad_token_beside_a_good_session_does_not_count(site):
    client = site.client("labeler")
    assert client.get("/api/v1/me").status_code == 200
    assert client.get("/api/v1/me", headers={"Authorization": "Bearer nonsense"}).status_code == 401


def test_scopes_and_revocation_hold(site):
    key = token(site, "admin", "review")
    headers = {"Authorization": f"Bearer {key}"}
    client = TestClient(site.app, base_url=ORIGIN)
    assert client.get("/api/v1/me", headers=headers).json()["code"] == "forbidden"
    key = token(site)
    with site.project.database.write() as connection:
        [found] = accounts.tokens(connection, site.people["labeler"])
        accounts.revoke_token(connection, site.people["labeler"], found.id)
    assert client.get("/api/v1/me", headers={"Authorization": f"Bearer {key}"}).status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("claims", {"purpose": "gold"}, 422, "invalid"),
        ("claims", {"member_id": "x"}, 422, "invalid"),
        ("assignments/{id}/draft", {"revision": 7, "payload": {"tiers": {}}}, 409, "stale_draft"),
        ("assignments/{id}/draft", {"revision": 0, "payload": {"role": "owner"}}, 422, "invalid"),
        ("assignments/{id}/submit", {"lease_no": 1, "answer": {"tiers": {}}}, 422, "invalid_answer"),
        ("assignments/{id}/submit", {"lease_no": 9, "answer": {"text": "x"}}, 422, "invalid_answer"),
        ("assignments/{id}/heartbeat", {"lease_no": 9}, 409, "lease_lost"),
        ("assignments/{id}/skip", {"reason": "bored"}, 422, "invalid"),
        ("assignments/nobody/release", {}, 404, "not_found"),
        ("submissions/nobody/undo", {}, 404, "not_found"),
        ("nothing", {}, 404, "not_found"),
    ],
)
def test_refusals_have_stable_codes(site, path, body, status, code):
    client = TestClient(site.app, base_url=ORIGIN, headers={"Authorization": f"Bearer {token(site)}"})
    task = client.post("/api/v1/claims", json={"batch_id": site.batches["Household questions"]}).json()
    answer = client.post(f"/api/v1/{path.format(id=task['id'])}", json=body, headers={"Idempotency-Key": "a"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert set(answer.json()) == {"type", "title", "status", "code", "detail"}


def test_a_refusal_does_not_repeat_what_was_sent(site):
    client = TestClient(site.app, base_url=ORIGIN, headers={"Authorization": f"Bearer {token(site)}"})
    assert "hunter2" not in client.post("/api/v1/claims", json={"batch_id": ["hunter2"]}).text


def test_a_submit_needs_its_key(site):
    client = TestClient(site.app, base_url=ORIGIN, headers={"Authorization": f"Bearer {token(site)}"})
    task = client.post("/api/v1/claims", json={"batch_id": site.batches["Household questions"]}).json()
    sent = {"lease_no": 1, "answer": in_order(task)}
    assert client.post(f"/api/v1/assignments/{task['id']}/submit", json=sent).status_code == 422


def test_the_schema_describes_the_api_and_no_page(site):
    schema = site.client().get("/api/openapi.json").json()
    assert set(schema["paths"]) >= {"/api/v1/claims", "/api/v1/assignments/{assignment_id}/submit", "/healthz"}
    assert not [path for path in schema["paths"] if path.startswith(("/work", "/admin", "/profile"))]
    assert "gold" not in json.dumps(schema).lower()


def test_a_task_names_nothing_that_a_labeler_must_not_know(site):
    with make_client(site) as client:
        task = client.claim(batch_id=site.batches["Household questions"])
    assert task is not None
    assert set(task["responses"][0]) == {"id", "body"}
    text = json.dumps(task).lower()
    for word in ("gold", "expected", "model", "origin", "overlap", "selection", "priority"):
        assert word not in text


def test_metrics_are_totals_for_those_who_manage(site):
    client = TestClient(site.app, base_url=ORIGIN)
    assert client.get("/metrics").status_code == 401
    text = client.get("/metrics", headers={"Authorization": f"Bearer {token(site, 'admin', 'manage')}"}).text
    assert 'plaudit_tasks{purpose="work",status="open"} 9' in text
    assert not [person for person in site.people.values() if person in text]
    assert client.get("/readyz").json() == {"status": "ready"}
