"""A labeler's pages without a browser: every rule of the work pages, in plain HTTP and without JavaScript."""

import re

import pytest
from fastapi.testclient import TestClient
from sites import QUESTION

from plaudit.feedback.store import clock
from plaudit.feedback.work.submissions import UNDO_MS


def claim(client: TestClient, batch_id: str, purpose: str = "work") -> str:
    answer = client.post("/work/claim", data={"batch_id": batch_id, "purpose": purpose})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/work/")
    return answer.headers["location"]


def fields(html: str) -> dict[str, str]:
    """The hidden fields of the work form."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', html))


def response_ids(html: str) -> list[str]:
    return re.findall(r'data-response="(\w+)"', html)


def ranks(html: str, *digits: int) -> dict[str, str]:
    return {f"rank-{name}": str(digit) for name, digit in zip(response_ids(html), digits, strict=True)}


def submit(client: TestClient, path: str, *digits: int, **extra: str):
    html = client.get(path).text
    return client.post(path, data={**fields(html), **ranks(html, *digits), "action": "submit", **extra})


def checked(html: str) -> list[str]:
    return re.findall(r'name="(rank-\w+|flag-\w+|confidence|none)"[^>]* checked', html)


def test_a_task_shows_all_it_needs_and_nothing_of_its_origin(site):
    client = site.client("labeler")
    html = client.get(claim(client, site.batches["Household questions"])).text
    assert len(response_ids(html)) == 4
    assert html.count('type="radio" name="rank-') == 16
    assert checked(html) == [], "there is no start order"
    assert "Says something untrue" in html
    assert "version 2" in html
    for word in ("a model", "checkpoint", "0" * 64, "gold", "overlap"):
        assert word not in html


def test_submitting_leads_to_the_next_task_with_a_way_back(site):
    client = site.client("labeler")
    first = claim(client, site.batches["Household questions"])
    answer = submit(client, first, 2, 1, 2, 4, reason="Because.", confidence="4")
    assert answer.status_code == 303
    path, _, query = answer.headers["location"].partition("?done=")
    assert path.startswith("/work/")
    assert path != first
    page = client.get(answer.headers["location"]).text
    assert f'action="/history/{query}/undo"' in page
    undone = client.post(f"/history/{query}/undo")
    assert undone.headers["location"] == f"{first}?note=undone"
    again = client.get(first).text
    assert len(checked(again)) == 5
    assert "Because." in again
    assert 'id="order" role="status" aria-live="polite">B &gt; A = C &gt; D' in again


def test_a_double_click_is_one_submit(site):
    client = site.client("labeler")
    path = claim(client, site.batches["Household questions"])
    html = client.get(path).text
    data = {**fields(html), **ranks(html, 1, 2, 3, 4), "action": "submit"}
    first, second = client.post(path, data=data), client.post(path, data=data)
    assert first.status_code == second.status_code == 303
    assert client.get("/api/v1/history").json()["total"] == 1


@pytest.mark.parametrize(
    ("digits", "words"),
    [((1, 2, 3), "Give a rank to D"), ((1,), "Give a rank to B, C and D"), ((), "Give a rank to A")],
)
def test_what_is_missing_is_named_and_nothing_typed_is_lost(site, digits, words):
    client = site.client("labeler")
    path = claim(client, site.batches["Household questions"])
    html = client.get(path).text
    given = dict(list(ranks(html, 1, 2, 3, 4).items())[: len(digits)])
    answer = client.post(path, data={**fields(html), **given, "action": "submit", "reason": "typed words"})
    assert answer.status_code == 422
    assert words in answer.text
    assert "typed words" in answer.text
    assert len(checked(answer.text)) == len(digits)


def test_none_is_acceptable_needs_no_ranks(site):
    client = site.client("labeler")
    path = claim(client, site.batches["Household questions"])
    html = client.get(path).text
    answer = client.post(path, data={**fields(html), "none": "yes", "action": "submit"})
    assert answer.status_code == 303


def test_none_is_acceptable_with_a_ranking_that_was_only_begun(site):
    client = site.client("labeler")
    path = claim(client, site.batches["Household questions"])
    html = client.get(path).text
    begun = dict(list(ranks(html, 1, 2, 3, 4).items())[:2])
    assert client.post(path, data={**fields(html), **begun, "none": "yes", "action": "submit"}).status_code == 303


def test_fields_that_the_page_does_not_have_are_not_looked_at(site):
    client = site.client("labeler")
    path = claim(client, site.batches["Household questions"])
    html = client.get(path).text
    odd = {
        f"rank-{'f' * 32}": "1",
        f"flag-{response_ids(html)[0]}": "no_such_flag",
        "confidence": "9",
        "active_ms": "-1",
    }
    data = {**fields(html), **ranks(html, 1, 2, 3, 4), **odd, "action": "submit"}
    assert client.post(path, data=data).status_code == 303
    name = response_ids(html)[0]
    assert client.post(path, data={**data, f"rank-{name}": "5"}).status_code == 422


def test_drafts_work_without_javascript(site):
    client = site.client("labeler")
    path = claim(client, site.batches["Write for the library"])
    html = client.get(path).text
    saved = client.post(path, data={**fields(html), "text": "Half an\r\nanswer", "action": "draft"})
    assert saved.headers["location"] == f"{path}?note=draft_saved"
    assert "Half an\nanswer</textarea>" in client.get(path).text


def test_a_stale_tab_overwrites_nothing_and_loses_nothing(site):
    client = site.client("labeler")
    path = claim(client, site.batches["Write for the library"])
    old = fields(client.get(path).text)
    client.post(path, data={**old, "text": "from the first tab", "action": "draft"})
    answer = client.post(path, data={**old, "text": "from the second tab", "action": "draft"})
    assert answer.status_code == 409
    assert "changed on another page" in answer.text
    assert "from the second tab" in answer.text
    assert "from the first tab" in client.get(path).text


def test_skipping_asks_why_and_leads_home(site):
    client = site.client("labeler")
    path = claim(client, site.batches["Household questions"])
    assert "Choose why you skip" in client.post(path, data={"action": "skip"}).text
    answer = client.post(path, data={"action": "skip", "skip_reason": "unclear"})
    assert answer.headers["location"] == "/?note=skipped"
    assert "never counts against you" in client.get("/?note=skipped").text
    assert claim(client, site.batches["Household questions"]) != path


def test_a_released_task_comes_back_with_its_draft(site):
    client = site.client("labeler")
    path = claim(client, site.batches["Write for the library"])
    client.post(path, data={**fields(client.get(path).text), "text": "kept words", "action": "draft"})
    assert client.post(path, data={"action": "release"}).headers["location"] == "/?note=released"
    assert claim(client, site.batches["Write for the library"]) == path
    assert "kept words" in client.get(path).text


def test_other_peoples_tasks_are_not_there(site):
    path = claim(site.client("labeler"), site.batches["Household questions"])
    for name in ("other", "reviewer", "owner"):
        stranger = site.client(name)
        assert stranger.get(path).status_code == 404
        assert stranger.post(path, data={"action": "release"}).status_code == 404
        assert stranger.get(path.replace("/work/", "/api/v1/assignments/")).status_code == 404
        assert stranger.get(path.replace("/work/", "/training/")).status_code == 404
    missing = site.client("other").get(f"/work/{'0' * 32}")
    assert site.client("other").get(path).text == missing.text.replace("0" * 32, path[-32:])


def test_history_offers_an_edit_as_a_new_version(site):
    client = site.client("labeler")
    path = claim(client, site.batches["Household questions"])
    submit(client, path, 1, 2, 3, 4, reason="first words")
    page = client.get("/history").text
    assert f'href="{path}"' in page
    assert "first words" in client.get(path).text
    assert submit(client, path, 4, 3, 2, 1, reason="second words").headers["location"] == "/history?note=saved"
    assert "edited, version 2" in client.get("/history").text


def test_undo_is_for_the_first_minutes(site):
    client = site.client("labeler")
    done = (
        submit(client, claim(client, site.batches["Household questions"]), 1, 2, 3, 4)
        .headers["location"]
        .partition("?done=")[2]
    )
    with clock.at(clock.now() + UNDO_MS + 1000):
        answer = client.post(f"/history/{done}/undo")
    assert answer.status_code == 409
    assert "edit it instead" in answer.text


def test_late_work_is_kept(site):
    client = site.client("labeler")
    path = claim(client, site.batches["Household questions"])
    html = client.get(path).text
    data = {**fields(html), **ranks(html, 1, 2, 3, 4), "action": "submit"}
    with clock.at(clock.now() + clock.HOUR):
        other = site.client("other")
        claim(other, site.batches["Household questions"])  # sweeps
        page = client.get(path).text
        assert "went back to the queue" in page
        assert client.post(path, data=data).status_code == 303


def test_training_explains_and_qualification_decides(site):
    site.add_person("new", state="training")
    client = site.client("new")
    home = client.get("/").text
    assert "Start the training" in home
    assert "Start the qualification" not in home
    assert client.post("/work/claim", data={"batch_id": site.batches["Household questions"]}).status_code == 403
    path = claim(client, site.batches["First steps"], "training")
    answer = submit(client, path, 1, 1, 1, 1)
    assert answer.headers["location"] == path.replace("/work/", "/training/")
    page = client.get(answer.headers["location"]).text
    assert page.count("half: a tie") == 2
    assert "<strong>Bleach and vinegar</strong> make a toxic gas." in page
    submit(client, claim(client, site.batches["First steps"], "training"), 1, 2, 3, 4)
    assert "Start the qualification" in client.get("/").text
    for _ in range(2):
        path = claim(client, site.batches["Entry test"], "qualification")
        html = client.get(path).text
        assert client.get(path.replace("/work/", "/training/")).status_code == 404, "nothing is explained here"
        best = [("1" if "baking soda" in text else "2") for text in re.split("<article", html)[1:]]
        submit(client, path, *map(int, best))
        assert "Answers in a qualification are final" in client.get(path).text
    assert "passed" in client.get("/qualification").text
    assert "Household questions" in client.get("/").text


def test_home_says_what_is_next(site):
    client = site.client("labeler")
    assert "Household questions" in client.get("/").text
    path = claim(client, site.batches["Household questions"])
    assert f'href="{path}"' in client.get("/").text
    site.add_person("resting", state="paused")
    assert "Your work is paused" in site.client("resting").get("/").text


def test_a_multi_turn_prompt_is_a_chat(site):
    client = site.client("labeler")
    html = client.get(claim(client, site.batches["Write for the library"])).text
    assert [speaker.strip() for speaker in re.findall(r'class="speaker">([^<]*)<', html)] == [
        "System",
        "User",
        "Assistant",
        "User",
    ]
    assert QUESTION not in html
