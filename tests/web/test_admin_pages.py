"""The admin's pages over plain HTTP: every form does what it says, and says what it cannot do."""

import json
import re

import pytest
from judged import BATCH, first_task, judge, rows, tables
from sites import Site

from grouped import ASKED, disagree_by_age
from plaudit.feedback import audit_log, statistics
from plaudit.feedback.data import lineage
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.people import accounts
from plaudit.feedback.project import create_project
from plaudit.feedback.statistics import StatisticsCache, Wanted
from plaudit.feedback.store import clock
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.tasks.batches import list_batches


@pytest.fixture
def admin(site):
    return site.client("admin")


@pytest.fixture
def owner(site):
    return site.client("owner")


def test_the_overview_of_a_new_project_says_how_to_begin(tmp_path):
    create_project(tmp_path / "new", "New").project.close()
    new = Site(tmp_path / "new")
    new.add_person("first", role="admin")
    page = new.client("first").get("/admin").text
    new.project.close()
    for step in ("guidelines", "import", "batches"):
        assert f'<li><a href="/admin/{step}"' in page.split("To begin")[1]
    assert "Nothing right now" in page


def test_the_overview_says_what_waits(site, admin):
    assert "To begin" not in admin.get("/admin").text
    judge(site, "ann", "bob", "cid")
    page = admin.get("/admin").text
    assert re.search(r"6 tasks</strong> on which people agree less than 40", page)
    assert ">18</dd>" in page


def test_members_are_invited_with_a_link_that_is_shown_once(site, admin):
    page = admin.post("/admin/members/invites", data={"role": "labeler", "note": "for Ann"}).text
    link = re.search(r"http://127.0.0.1(/invite/[\w-]+)", page)
    assert link
    assert site.client().get(link[1]).status_code == 200
    again = admin.get("/admin/members").text
    assert "for Ann" in again
    assert link[1] not in again
    mine = again.split("for Ann")[1]
    invite = re.search(r"/admin/members/invites/\w+/cancel", mine)
    assert invite
    assert admin.post(invite[0]).status_code == 303
    with site.project.database.read() as c, pytest.raises(FeedbackError, match="used already or is over"):
        accounts.find_invite(c, link[1].rsplit("/", 1)[1])


def test_only_owners_make_admins(site, admin, owner):
    other = site.people["other"]
    assert admin.post("/admin/members/invites", data={"role": "admin"}).status_code == 403
    assert admin.post(f"/admin/members/{other}/role", data={"role": "admin"}).status_code == 403
    assert owner.post(f"/admin/members/{other}/role", data={"role": "admin"}).status_code == 303
    assert admin.post(f"/admin/members/{other}/state", data={"state": "removed"}).status_code == 403
    assert admin.post(f"/admin/members/{other}/role", data={"role": "king"}).status_code == 422
    assert owner.post(f"/admin/members/{site.people['owner']}/state", data={"state": "removed"}).status_code == 409
    assert "last owner" in owner.post(f"/admin/members/{site.people['owner']}/role", data={"role": "labeler"}).text


def test_pausing_somebody_stops_their_work(site, admin):
    labeler = site.people["labeler"]
    assert admin.post(f"/admin/members/{labeler}/state", data={"state": "paused"}).status_code == 303
    assert "Your work is paused" in site.client("labeler").get("/").text
    assert admin.post(f"/admin/members/{labeler}/state", data={"state": "erased"}).status_code == 422


def test_guidelines_go_from_draft_to_published(site, admin):
    page = admin.get("/admin/guidelines").text
    assert "Publish version" not in page
    assert admin.post("/admin/guidelines/publish").status_code == 409
    form = {"body": "# New\r\n\r\nBe kind.", "key": ["kind", ""], "label": ["Kind", ""], "help": ["", ""]}
    assert admin.post("/admin/guidelines", data=form).status_code == 303
    page = admin.get("/admin/guidelines").text
    assert "<ins>" in page
    assert "<del>" in page
    assert "Publish version 3" in page
    admin.post("/admin/guidelines/publish")
    with site.project.database.read() as c:
        now = guidelines.current(c)
    assert (now.version, now.body, [flag.key for flag in now.flags]) == (3, "# New\n\nBe kind.", ["kind"])
    bad = admin.post("/admin/guidelines", data={**form, "key": ["not a key", ""], "body": "typed words"})
    assert bad.status_code == 422
    assert "typed words" in bad.text


RULES = {
    "overlap": "2",
    "responses_per_task": "3",
    "gold_percent": "10",
    "lease_minutes": "20",
    "adaptive_maximum": "4",
    "adaptive_below": "60",
    "skips_to_retire": "3",
    "pass_percent": "80",
}


def test_a_batch_from_form_to_closed(site, admin):
    form = {**RULES, "name": "Third week", "kind": "ranking", "purpose": "work", "adaptive": "yes", "blur": "yes"}
    made = admin.post("/admin/batches/new", data=form)
    assert made.status_code == 303, made.text
    path = made.headers["location"]
    assert admin.post(f"{path}/status", data={"status": "running"}).status_code == 409
    added = admin.post(f"{path}/tasks", data={"origin": "", "split": "", "tag": "", "limit": "4"})
    assert added.headers["location"].endswith("?added=8"), "four answers make two tasks of three at most"
    page = admin.get(f"{path}?rate=20").text
    left = re.search(r"<strong>(\d+) judgments</strong>", page)
    assert left
    assert int(left[1]) in range(16, 33, 2), "two each, and four for the tasks that are audited"
    assert "at 20 an hour" in page
    assert "Estimated from reading speed" in page
    for status in ("running", "paused", "running", "closed"):
        assert admin.post(f"{path}/status", data={"status": status}).status_code == 303
    assert admin.post(f"{path}/status", data={"status": "running"}).status_code == 409
    config = next(row for row in rows(site, tables.batch) if row.name == "Third week").config
    assert (config["overlap"], config["adaptive"]["below"], config["gold_rate"]) == (2, 0.6, 0.1)
    assert config["blur"]
    assert not config["ask_confidence"]
    taken = admin.post("/admin/batches/new", data={**form, "overlap": "0"})
    assert taken.status_code == 422
    assert 'value="Third week"' in taken.text
    assert "overlap" in taken.text


def choose(client, batch: str, rows_, **form):
    data = "".join(f"{json.dumps(row)}\n" for row in rows_).encode()
    form = {"policy": "uncertainty", "count": "2", "random_percent": "50", "seed": "0", **form}
    return client.post(f"/admin/batches/choose/{batch}", data=form, files={"scores": ("scores.jsonl", data)})


def test_scores_choose_what_a_new_batch_asks(site, admin):
    form = {**RULES, "name": "Unsure", "kind": "demonstration", "purpose": "work"}
    batch = admin.post("/admin/batches/new", data=form).headers["location"].rpartition("/")[2]
    assert f"/admin/batches/choose/{batch}" in admin.get(f"/admin/batches/{batch}").text
    assert "File of scores" in admin.get(f"/admin/batches/choose/{batch}").text
    page = upload(admin, [{"prompt": f"Chosen {i}?"} for i in range(40)], "prompts").text
    admin.post(re.search(r'action="(/admin/import/\w+)"', page)[1], data={**hidden(page), "action": "import"})
    lines = [{"prompt": f"Chosen {i}?", "score": i} for i in range(40)]
    wrong = choose(admin, batch, [*lines, {"prompt": "<script>"}, {"prompt": "Chosen 3?", "score": 1}])
    assert wrong.status_code == 422
    assert "2 of 42 rows cannot be used" in wrong.text
    assert '<th scope="row" class="number">41</th>' in wrong.text
    assert "line 4 scores the same prompt" in wrong.text
    for field, value, told in (("count", "0", "Prompts to choose"), ("random_percent", "0", "Of them at random")):
        refused = choose(admin, batch, lines, **{field: value})
        assert refused.status_code == 422
        assert f"{told}: Input should be greater than" in refused.text
    assert not [row for row in rows(site, tables.task) if row.batch_id == batch]
    done = choose(admin, batch, [*lines, {"prompt": "Unknown?", "score": 5}])
    assert done.headers["location"] == f"/admin/batches/{batch}?added=2"
    kept = [row.selection for row in rows(site, tables.task) if row.batch_id == batch]
    assert sorted(one["random"] for one in kept) == [False, True]
    assert all(0 < one["probability"] <= 1 for one in kept)
    page = admin.get(f"/admin/batches/{batch}").text
    assert "1 of them at random" in page
    assert "1 not in this project" in page
    assert "lot, beside uncertainty" in page
    assert choose(admin, batch, [{"prompt": "Unknown?", "score": 5}]).status_code == 422


def test_rules_change_and_keep_what_the_form_does_not_hold(site, admin):
    batch = site.batches[BATCH]
    before = next(row for row in rows(site, tables.batch) if row.id == batch).config
    assert admin.post(f"/admin/batches/{batch}/rules", data={**RULES, "gold_percent": "90"}).status_code == 422
    assert admin.post(f"/admin/batches/{batch}/rules", data=RULES).status_code == 303
    after = next(row for row in rows(site, tables.batch) if row.id == batch).config
    assert after["lease_minutes"] == 20
    assert after["gold_start"] == before["gold_start"]


def test_gold_from_a_task(site, admin):
    judge(site, "ann", "bob", "cid")
    task = first_task(site)
    page = admin.get(f"/admin/gold/{task}").text
    names = re.findall(r'name="rank-(\w+)"', page)
    form = {"batch": site.batches[BATCH], "explanation": "Look *closer*."}
    refused = admin.post(f"/admin/gold/{task}", data={**form, f"rank-{names[0]}": "1"})
    assert refused.status_code == 422
    assert "Look *closer*." in refused.text
    ranked = {**form, f"rank-{names[0]}": "1", f"rank-{names[1]}": "2", f"flag-{names[2]}": "harmful"}
    assert admin.post(f"/admin/gold/{task}", data=ranked).status_code == 303
    page = admin.get(f"/admin/gold/{task}").text
    assert "A is better than B" in page
    assert "C has the flag “Could hurt somebody”" in page
    assert "<em>closer</em>" in page
    assert page.count("passed</span>") + page.count("failed</span>") == 3
    assert admin.get("/admin/gold").text.count("of 3 passed") == 1
    assert admin.post(f"/admin/gold/{task}", data=ranked).status_code == 409
    assert admin.post(f"/admin/gold/{task}/retire").status_code == 303
    assert admin.post(f"/admin/gold/{task}/retire").status_code == 404
    assert ">retired</span>" in admin.get(f"/admin/gold/{task}").text


def test_gold_is_copied_into_training(site, admin):
    there = {row.prompt_id for row in rows(site, tables.task) if row.batch_id == site.batches["First steps"]}
    task = next(
        row.id for row in rows(site, tables.task) if row.batch_id == site.batches[BATCH] and row.prompt_id not in there
    )
    names = re.findall(r'name="rank-(\w+)"', admin.get(f"/admin/gold/{task}").text)
    form = {"batch": site.batches["First steps"], f"rank-{names[0]}": "1", f"rank-{names[3]}": "2"}
    assert admin.post(f"/admin/gold/{task}", data=form).status_code == 303
    assert admin.post(f"/admin/gold/{task}", data=form).status_code == 409
    keys = {row.task_id for row in rows(site, tables.gold_key)}
    assert task not in keys, "the ordinary task stays one"
    assert sum(row.batch_id == site.batches["First steps"] and row.id in keys for row in rows(site, tables.task)) == 3


def test_prompts_are_found_by_words_and_by_where_they_come_from(admin):
    assert "Facts, with many pictures" in admin.get("/admin/content", params={"q": "library"}).text
    assert "Nothing found" in admin.get("/admin/content", params={"q": "100%_nothing"}).text
    found = admin.get("/admin/content", params={"q": "anthocyanins", "split": "train"}).text
    path = re.search(r"/admin/content/\w{32}", found)
    assert path, "words of answers count too"
    page = admin.get(path[0]).text
    assert page.count("<article") == 4
    assert "0" * 64 in page, "the checkpoint"
    assert admin.post(f"{path[0]}/status", data={"status": "retired"}).status_code == 303
    assert "Bring it back" in admin.get(path[0]).text
    assert admin.post(f"{path[0]}/status", data={"status": "gone"}).status_code == 422
    assert "Nothing more" in admin.get("/admin/content?page=99").text


def upload(client, rows_, kind: str, name: str = "file.jsonl", **form):
    data = "".join(f"{json.dumps(row)}\n" for row in rows_).encode()
    return client.post("/admin/import", data={"kind": kind, **form}, files={"file": (name, data)})


def hidden(page: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


def test_import_is_rehearsed_and_then_done(site, admin):
    before = len(rows(site, tables.prompt))
    page = upload(admin, [{"prompt": f"New {i}?"} for i in range(3)], "prompts", tags="spring, week").text
    assert "would bring" in page
    assert len(rows(site, tables.prompt)) == before
    action = re.search(r'action="(/admin/import/\w+)"', page)
    assert action
    done = admin.post(action[1], data={**hidden(page), "action": "import"}).text
    assert "Imported file.jsonl" in done
    assert len(rows(site, tables.prompt)) == before + 3
    assert [row.tags for row in rows(site, tables.prompt)].count(["spring", "week"]) == 3
    assert admin.post(action[1], data={**hidden(page), "action": "import"}).status_code == 404
    assert list((site.project.folder / "uploads").iterdir()) == []


def test_faulty_lines_are_told_and_nothing_is_imported(site, admin):
    before = len(rows(site, tables.prompt))
    answer = upload(admin, [{"prompt": "Good?"}, {"question": "<script>"}, {"prompt": ""}], "prompts")
    assert answer.status_code == 422
    assert "2 of 3 rows cannot be imported" in answer.text
    assert '<th scope="row" class="number">2</th>' in answer.text
    assert len(rows(site, tables.prompt)) == before
    assert not (site.project.folder / "uploads").exists()


def test_recorded_judgments_come_in_with_their_labelers(admin):
    ranked = [
        {"prompt": f"P{i}", "responses": ["a", "b"], "ranks": [1, 2], "labeler": name}
        for i in range(3)
        for name in "xy"
    ]
    page = upload(admin, ranked, "rankings").text
    action = re.search(r'action="(/admin/import/\w+)"', page)
    assert action
    assert "See the statistics" in admin.post(action[1], data={**hidden(page), "action": "import"}).text
    assert "6 rankings of 3 tasks by 2 people" in admin.get("/admin/quality").text


def test_odd_uploads_are_refused(site, admin):
    assert upload(admin, [], "prompts").status_code == 422
    assert upload(admin, [{"prompt": "x"}], "prompts", name="../../evil.exe").status_code == 422
    assert upload(admin, [{"prompt": "x"}], "secrets").status_code == 422
    assert admin.post("/admin/import", data={"kind": "prompts"}).status_code == 422
    assert admin.post("/admin/import/..%2Fplaudit", data={"kind": "prompts"}).status_code == 404
    page = upload(admin, [{"prompt": "kept?"}], "prompts", name="../../../over.jsonl").text
    assert "over.jsonl" in page
    assert "../" not in page
    action = re.search(r'action="(/admin/import/\w+)"', page)
    assert action
    assert admin.post(action[1], data={**hidden(page), "action": "discard"}).status_code == 303
    assert list((site.project.folder / "uploads").iterdir()) == []


def test_quality_and_bias_show_figures_with_their_intervals(site, admin):
    assert "no judgments of this kind" in admin.get("/admin/quality").text
    judge(site, "ann", "bob", "cid")
    page = admin.get("/admin/quality").text
    assert "18 rankings of 6 tasks by 3 people" in page
    assert "<svg" in page
    assert re.search(r"33\.3\s%", page), "two of three agree, one has it upside down"
    assert "n\u00a0=\u00a0108" in page
    assert "labelers: simulated" not in page
    assert admin.get("/admin/quality?kind=ai").status_code == 200
    assert admin.get(f"/admin/quality?batch={'0' * 32}").status_code == 404
    bias = admin.get("/admin/bias").text
    assert "Position" in bias
    assert "no figure" in bias
    assert "are needed" in bias


def test_figures_follow_the_judgments(site, admin, monkeypatch):
    monkeypatch.setattr(statistics, "QUICK_S", 3600.0)  # a busy machine may take longer than what counts as quick
    judge(site, "ann", "bob")
    assert "12 rankings" in admin.get("/admin/quality").text
    judged = judge(site, "cid")
    assert "18 rankings" in admin.get("/admin/quality").text
    site.client("reviewer").post(f"/review/submissions/{judged[0]}/void", data={"reason": "careless"})
    assert "17 rankings" in admin.get("/admin/quality").text


def test_a_reward_model_is_audited_from_its_scores(site, admin):
    judge(site, "ann", "bob")
    prompts = {row.id: row.messages for row in rows(site, tables.prompt)}
    texts: dict[str, list[str]] = {}
    for row in rows(site, tables.response):
        texts.setdefault(row.prompt_id, []).append(row.body)
    lines = "".join(
        json.dumps({"prompt": prompts[name], "responses": bodies, "scores": [float(len(body)) for body in bodies]})
        + "\n"
        for name, bodies in texts.items()
    )
    form = {"batch": "", "kind": "person", "criterion": "", "of": "reward"}
    file = {"scores": ("scores.jsonl", lines.encode())}
    page = admin.post("/admin/bias/scores", data=form, files=file)
    assert page.status_code == 200, page.text
    assert "reward model, length: " in page.text
    page = admin.post("/admin/bias/scores", data={**form, "of": "suggestion"}, files=file).text
    assert "points of agreement with the machine above one half" in page
    assert "L-bob, suggestion: " in page
    assert "reward model, length: " not in page
    assert admin.post("/admin/bias/scores", data={**form, "of": "songs"}, files=file).status_code == 422
    broken = admin.post("/admin/bias/scores", data=form, files={"scores": ("scores.jsonl", b'{"prompt": "x"}\n')})
    assert broken.status_code == 422
    assert admin.post("/admin/bias/scores", data=form).status_code == 422


RECIPE = {"name": "people", "kind": "rankings", "aggregate": "each", "ties": "keep", "split": "train"}


def test_a_snapshot_is_previewed_made_and_downloaded(site, admin):
    judge(site, "ann", "bob")
    form = {**RECIPE, "labelers": "person", "min_judgments": "1"}
    preview = admin.post("/admin/snapshots/new", data={**form, "action": "preview"}).text
    assert "What this recipe takes" in preview
    assert rows(site, tables.snapshot) == []
    made = admin.post("/admin/snapshots/new", data={**form, "action": "create"})
    assert made.status_code == 303, made.text
    path = made.headers["location"]
    assert admin.post("/admin/snapshots/new", data={**form, "action": "create"}).headers["location"] == path
    page = admin.get(path).text
    assert "plaudit reward model=smollm2 data=" in page
    file = admin.get(f"{path}/file")
    found = rows(site, tables.snapshot)[0]
    assert len(file.text.splitlines()) == found.rows
    assert file.headers["content-disposition"] == 'attachment; filename="people-v1.jsonl"'
    (site.project.folder / "snapshots" / "people-v1.jsonl").write_text("changed\n")
    assert "was changed" in admin.get(path).text
    assert admin.get(f"{path}/file").status_code == 410


@pytest.mark.parametrize(
    "wrong", [{"name": "Not A Name"}, {"labelers": ""}, {"min_gold": "many"}, {"batches": "No such"}, {"kind": "songs"}]
)
def test_a_wrong_recipe_keeps_what_was_typed(site, admin, wrong):
    judge(site, "ann")
    form = {**RECIPE, "labelers": "person", "without": "L-typed", "action": "create", **wrong}
    answer = admin.post("/admin/snapshots/new", data=form)
    assert answer.status_code == 422
    assert "L-typed" in answer.text


def test_lineage_is_read_from_both_ends(site, admin):
    judge(site, "ann", "bob")
    form = {**RECIPE, "labelers": "person", "action": "create"}
    made = admin.post("/admin/snapshots/new", data=form).headers["location"].rsplit("/", 1)[1]
    with site.project.database.write() as c:
        lineage.record_use(c, made, "runs/<b>reward", "reward")
    page = admin.get("/admin/lineage", params={"run": "runs/<b>reward"}).text
    assert "L-ann" in page
    assert "<b>reward" not in page
    assert "runs/&lt;b&gt;reward" in admin.get("/admin/lineage", params={"labeler": "L-ann"}).text
    assert admin.get("/admin/lineage?run=nowhere").status_code == 404
    assert admin.get("/admin/lineage?labeler=nobody").status_code == 404


def test_the_log_is_paged_and_verified(site, admin):
    page = admin.get("/admin/log?verify=yes").text
    assert "stand in an unbroken chain" in page
    assert "guideline.publish" in page
    assert "guideline.publish" not in admin.get("/admin/log?before=2").text
    with site.project.database.write() as c:
        for number in range(120):
            audit_log.record(c, f"test.{number}", "test", "1", by=site.people["admin"])
    older = re.search(r"/admin/log\?before=(\d+)", admin.get("/admin/log").text)
    assert older
    assert "project.create" in admin.get(f"/admin/log?before={older[1]}").text


def test_erasing_shows_what_it_would_do_and_asks_again(site, admin):
    judge(site, "ann", reason="Words of Ann.")
    ann = site.people["ann"]
    path = f"/admin/members/{ann}/erase"
    assert admin.post(path, data={}).status_code == 422
    form = {"what": ["words", "account"]}
    assert "6 reasons, demonstrations and notes" in admin.post(path, data={**form, "action": "preview"}).text
    wrong = admin.post(path, data={**form, "action": "erase", "confirm": "L-bob"})
    assert wrong.status_code == 422
    assert [row.body for row in rows(site, tables.submission_text)] == ["Words of Ann."] * 6
    done = admin.post(path, data={**form, "action": "erase", "confirm": "L-ann"})
    assert done.status_code == 303, done.text
    assert [row.body for row in rows(site, tables.submission_text)] == [None] * 6
    assert len(rows(site, tables.ranking_entry)) == 24, "rankings stay"
    page = admin.get(f"/admin/members/{ann}").text
    assert "This account was erased" in page
    assert "ann@example.org" not in page
    above = admin.post(f"/admin/members/{site.people['owner']}/erase", data={**form, "action": "preview"})
    assert above.status_code == 403


def test_settings_are_saved_or_explained(site, admin):
    form = {
        "contact": "Room 12",
        "open_leases": "3",
        "smallest_group": "6",
        "key": ["age", ""],
        "text": ["How old are you?", ""],
        "options": ["under 30\r\n30 or more\r\n", ""],
    }
    assert admin.post("/admin/settings", data=form).status_code == 303
    found = site.project.settings()
    assert (found.contact, found.open_leases, found.smallest_group) == ("Room 12", 3, 6)
    assert found.group_questions[0].options == ("under 30", "30 or more")
    assert "How old are you?" in site.client("labeler").get("/profile/groups").text
    wrong = admin.post("/admin/settings", data={**form, "options": ["only one", ""], "open_leases": "many"})
    assert wrong.status_code == 422
    assert "only one" in wrong.text
    assert "open leases" in wrong.text


def test_groups_are_shown_when_large_enough_and_of_all_batches_only(site, admin, monkeypatch):
    monkeypatch.setattr(statistics, "QUICK_S", 3600.0)
    assert "Groups</h2>" not in admin.get("/admin/bias").text, "off by default"
    disagree_by_age(site.project)
    page = admin.get("/admin/bias").text
    assert "How old are you?" in page
    assert "evidence of an effect, +100.0 points of strict agreement within groups" in page
    assert re.search(r"40 or more</th><td class=\"number\">4</td>", page)
    assert "Where do you live?" not in page
    site.project.save_settings(ASKED.model_copy(update={"smallest_group": 4}), by=None)
    page = admin.get("/admin/bias").text
    assert "chosen by 4 people each" in page
    assert "How old are you?" not in page
    site.project.save_settings(ASKED, by=None)
    with site.project.database.read() as c:
        batch = next(one for one in list_batches(c) if one.name == "Ages")
    page = admin.get("/admin/bias", params={"batch": batch.id}).text
    assert "How old are you?" not in page
    assert "made of all batches together only" in page


def test_figures_that_took_long_are_kept_for_a_while(site, monkeypatch):
    judge(site, "ann")
    moments = iter([0.0, 3.0, 3.0, 50.0, 64.0, 65.0, 65.0])
    monkeypatch.setattr(statistics.time, "monotonic", lambda: next(moments))
    cache = StatisticsCache()
    first = cache.get(site.project, Wanted("person"))
    judge(site, "bob")
    assert cache.get(site.project, Wanted("person")) is first, "three seconds of work last for a minute"
    later = cache.get(site.project, Wanted("person"))
    assert later is not None
    assert later.judgments == 12


def test_the_page_says_when_not_all_judgments_are_counted(site, admin, monkeypatch):
    monkeypatch.setattr(statistics, "NEWEST", 5)
    for minute, name in enumerate(("ann", "bob")):
        with clock.at(clock.now() + minute * clock.MINUTE):
            judge(site, name)
    assert "the newest" in admin.get("/admin/quality").text
