"""Getting in and out: invitations, sessions, throttling, and where one lands."""

import pytest
from fastapi.testclient import TestClient
from sites import ORIGIN, Site

from plaudit.feedback.people import accounts
from plaudit.web.app import create_app

PASSWORD = "correct horse battery staple"


def invite(site: Site, role: accounts.Role = "labeler") -> str:
    with site.project.database.write() as connection:
        return f"/invite/{accounts.create_invite(connection, role, by=None)}"


def join(site: Site, client: TestClient, email: str = "ann@example.org"):
    return client.post(invite(site), data={"email": email, "display_name": "Ann", "password": PASSWORD})


def test_an_invitation_makes_an_account_and_signs_in_once(site: Site):
    client, path = site.client(), invite(site)
    assert "Choose how you sign in" in client.get(path).text
    sent = {"email": "Ann@Example.org", "display_name": "Ann", "password": PASSWORD}
    assert client.post(path, data=sent).headers["location"] == "/"
    assert "Before real work" in client.get("/").text
    again = site.client().post(path, data={**sent, "email": "eve@example.org"})
    assert again.status_code == 404
    assert "used already" in again.text


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"password": "short"}, "Use 10 to 200"),
        ({"password": "ann@example.org!"}, "contains your name or email"),
        ({"email": "nobody"}, "no email address"),
        ({"display_name": ""}, "A name has"),
        ({"email": "labeler@example.org"}, "Use another one"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_stays(site: Site, changed, words):
    path = invite(site)
    sent = {"email": "ann@example.org", "display_name": "Ann", "password": PASSWORD, **changed}
    answer = site.client().post(path, data=sent)
    assert answer.status_code in (409, 422)
    assert words in answer.text
    assert f'value="{sent["email"]}"' in answer.text
    assert sent["password"] not in answer.text.replace(sent["email"], "")


def test_sign_in_leads_back_to_where_one_was(site: Site):
    join(site, site.client())
    client = site.client()
    asked = client.get("/history?page=2")
    assert asked.headers["location"] == "/sign-in?next=%2Fhistory%3Fpage%3D2"
    page = client.get(asked.headers["location"]).text
    assert 'name="next" value="/history?page=2"' in page
    sent = {"email": "ann@example.org", "password": PASSWORD, "next": "/history?page=2"}
    assert client.post("/sign-in", data=sent).headers["location"] == "/history?page=2"


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/\\evil.example", "\\evil", "/a\nb", "javascript:x", ""]
)
def test_nobody_is_led_elsewhere_after_signing_in(site: Site, target: str):
    client = site.client("labeler")
    assert client.get("/sign-in", params={"next": target}).headers["location"] == "/"


def test_wrong_email_and_wrong_password_look_the_same(site: Site):
    join(site, site.client())
    answers = [
        site.client().post("/sign-in", data={"email": email, "password": "wrong password 123"})
        for email in ("ann@example.org", "bob@example.org")
    ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].text.replace("ann@", "bob@") == answers[1].text


def test_guessing_is_slowed_down(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(accounts.passwords, "verify_password", lambda *_: False)
    client = site.client()
    for _ in range(accounts.BY_PAIR.hits):
        assert client.post("/sign-in", data={"email": "ann@example.org", "password": "x"}).status_code == 401
    answer = client.post("/sign-in", data={"email": "ann@example.org", "password": "x"})
    assert answer.status_code == 429
    assert "Too many tries" in answer.text


def test_a_session_starts_new_and_ends_on_the_server(site: Site):
    join(site, site.client())
    client = site.client()
    client.cookies.set(site.cookie, "planted")
    client.post("/sign-in", data={"email": "ann@example.org", "password": PASSWORD})
    kept = [cookie.value for cookie in client.cookies.jar if cookie.name == site.cookie and cookie.value != "planted"]
    assert len(kept) == 1
    thief = site.client()
    thief.cookies.set(site.cookie, kept[0])
    assert thief.get("/").status_code == 200
    thief.post("/sign-out")
    thief.cookies.set(site.cookie, kept[0])
    assert thief.get("/").status_code == 303


def test_cookies_are_out_of_reach(site: Site):
    plain = join(site, site.client()).headers["set-cookie"]
    assert "HttpOnly" in plain
    assert "SameSite=lax" in plain
    assert "Domain" not in plain
    secure = TestClient(create_app(site.project, https=True), base_url="https://label.example.org")
    sent = {"email": "ann@example.org", "password": PASSWORD}
    answer = secure.post("/sign-in", data=sent, headers={"Sec-Fetch-Site": "same-origin"}, follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-plaudit=")
    assert "Secure" in cookie
    assert "Path=/" in cookie


def test_a_post_after_the_session_ended_says_so(site: Site):
    answer = site.client().post("/work/claim")
    assert answer.status_code == 401
    assert "come back, and send it again" in answer.text or "then send it again" in answer.text


def test_doors_exist_in_a_demo_only(site: Site):
    client = TestClient(site.app, base_url=ORIGIN, headers={"Sec-Fetch-Site": "same-origin"})
    assert client.get("/enter/anything").status_code == 404
    assert client.post("/enter/anything").status_code == 404


def test_profile_ends_sessions_changes_the_password_and_makes_tokens(site: Site):
    client = site.client()
    join(site, client)
    elsewhere = site.client()
    elsewhere.post("/sign-in", data={"email": "ann@example.org", "password": PASSWORD})
    assert client.get("/profile").text.count("/end") == 2
    assert client.post("/profile/password", data={"old": "wrong", "new": "another long one"}).status_code == 422
    sent = {"old": PASSWORD, "new": "another long password"}
    assert client.post("/profile/password", data=sent).headers["location"] == "/profile?note=password_changed"
    assert elsewhere.get("/").status_code == 303
    made = client.post("/profile/tokens", data={"name": "script", "scope": "work", "days": "30"})
    [token] = [word for word in made.text.replace("<", " ").replace(">", " ").split() if word.startswith("plaudit_")]
    program = TestClient(site.app, base_url=ORIGIN, headers={"Authorization": f"Bearer {token}"})
    assert program.get("/api/v1/me").status_code == 200
    assert token not in client.get("/profile").text
    assert client.post("/profile/tokens", data={"name": "x", "scope": "manage"}).status_code == 422
    client.post("/profile/preferences", data={})
    assert 'data-shortcuts="off"' in work_page(client, site)
    data = client.get("/profile/data")
    assert "attachment" in data.headers["content-disposition"]
    assert data.json()["account"]["email"] == "ann@example.org"
    assert token not in data.text


def work_page(client: TestClient, site: Site) -> str:
    sent = {"batch_id": site.batches["First steps"], "purpose": "training"}
    return client.get(client.post("/work/claim", data=sent).headers["location"]).text
