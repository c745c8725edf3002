"""The reviewers' pages over plain HTTP: the queue, one task side by side, decisions, voiding and restoring."""

import re

import pytest
from judged import first_task, judge, rows, tables

from plaudit.feedback.upkeep.invariants import invariants


@pytest.fixture
def judged(site):
    return judge(site, "ann", "bob", "cid", reason="Because it works.", flag="off_topic")


@pytest.mark.usefixtures("judged")
def test_the_queue_shows_why_a_task_is_there(site):
    client = site.client("reviewer")
    page = client.get("/review").text
    assert "% agreement" in page
    assert page.count("Look<span") == 6
    flags = client.get(f"/review?show=flags&batch={site.batches['Household questions']}").text
    assert "3 flags" in flags
    assert client.get("/review?show=skips").text.count("Look<span") == 0
    assert "Nothing more" in client.get("/review?page=9").text


@pytest.mark.usefixtures("judged")
def test_one_task_side_by_side_under_pseudonyms(site):
    page = site.client("reviewer").get(f"/review/{first_task(site)}").text
    assert page.count("<article") == 4
    for name in ("L-ann", "L-bob", "L-cid"):
        assert page.count(f"{name}</th>") + page.count(f"{name} ") >= 1
    assert "@example.org" not in page
    assert "a model" not in page
    assert "Because it works." in page
    assert "Does not answer ×" in page


@pytest.mark.usefixtures("judged")
def test_a_decision_needs_every_rank_and_leaves_the_queue(site):
    client, task = site.client("reviewer"), first_task(site)
    path = f"/review/{task}"
    names = re.findall(r'name="rank-(\w+)" value="1"', client.get(path).text)
    half = {f"rank-{names[0]}": "1", "category": "taste", "note": "kept words"}
    answer = client.post(path, data=half)
    assert answer.status_code == 422
    assert "kept words" in answer.text
    assert f'name="rank-{names[0]}" value="1" checked' in answer.text
    full = {f"rank-{name}": str(rank) for name, rank in zip(names, (2, 1, 1, 3), strict=True)}
    assert client.post(path, data={**full, "category": "nonsense"}).status_code == 422
    assert (
        client.post(path, data={**full, "category": "taste", "note": "n"}).headers["location"] == "/review?note=decided"
    )
    decided = rows(site, tables.adjudication)[0]
    assert decided.tiers == dict(zip(names, (2, 1, 1, 3), strict=True))
    page = client.get(path).text
    assert "B = C &gt; A &gt; D" in page
    assert "Your decision" not in page
    assert f"/review/{task}" not in client.get("/review").text
    assert client.post(path, data={**full, "category": "taste"}).status_code == 409


def test_nobody_decides_about_their_own_work(site):
    judge(site, "reviewer", "ann")
    client, path = site.client("reviewer"), f"/review/{first_task(site)}"
    assert "somebody else has to decide" in client.get(path).text
    assert client.post(path, data={"category": "taste"}).status_code == 403


def test_voiding_and_restoring_need_a_reason(site, judged):
    client = site.client("reviewer")
    form = {"task_id": first_task(site)}
    for action, state in (("void", "voided"), ("restore", "submitted")):
        path = f"/review/submissions/{judged[0]}/{action}"
        assert client.post(path, data=form).status_code == 422
        answer = client.post(path, data={**form, "reason": f"why {action}"})
        assert answer.headers["location"].startswith(f"/review/{form['task_id']}?note=")
        assert [row.state for row in rows(site, tables.assignment)].count("voided") == (state == "voided")
    assert [row.reason for row in rows(site, tables.submission_event)] == ["why void", "why restore"]
    with site.project.database.read() as c:
        assert invariants(c) == []
    assert client.post(f"/review/submissions/{judged[0]}/restore", data={"reason": "again"}).status_code == 409


def test_a_task_that_was_skipped_too_often_is_given_out_again(site):
    for name in ("ann", "bob", "cid"):
        site.add_person(name)
        client = site.client(name)
        path = client.post("/work/claim", data={"batch_id": site.batches["Write for the library"]}).headers["location"]
        client.post(path, data={"action": "skip", "skip_reason": "unclear"})
    client = site.client("reviewer")
    found = re.findall(r'href="/review/(\w{32})"', client.get("/review?show=skips").text)
    retired = [row.id for row in rows(site, tables.task) if row.status == "retired"]
    assert set(retired) <= set(found)
    for task in retired:
        assert "too many people skipped it" in client.get(f"/review/{task}").text
        client.post(f"/review/{task}/reopen")
    assert [row for row in rows(site, tables.task) if row.status == "retired"] == []
