"""The reviewer's and admin's pages in a real Chromium: journeys, narrow and dark, and under attack."""

import json
import re
from collections.abc import Iterator

import pytest
from hostile import CORPUS
from judged import BATCH, first_task, judge, rows, tables
from playwright.sync_api import expect
from sites import Site
from tabs import NARROW, Tab, assert_accessible, assert_inert

from plaudit.core.records import Message
from plaudit.feedback.content import content
from plaudit.feedback.data import lineage
from plaudit.feedback.data.recipe import Recipe
from plaudit.feedback.data.snapshots import create_snapshot
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.tasks.batches import BatchConfig, create_batch, set_status
from plaudit.feedback.tasks.guidelines import Flag
from plaudit.feedback.tasks.tasks import NewTask, add_tasks

SHORT = "<script>window.pwned=1</script><img src=x onerror=window.pwned=1>\u202e"
OPEN_ALL = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"


def addresses(site: Site) -> Iterator[str]:
    """Every page of reviewers and admins, with something on it."""
    task = first_task(site)
    gold = rows(site, tables.gold_key)[0].task_id
    prompt = rows(site, tables.prompt)[0].id
    snapshot = rows(site, tables.snapshot)[0].id
    batch, person = site.batches[BATCH], site.people["ann"]
    yield from ("/review", "/review?show=flags", f"/review/{task}", "/admin", "/admin/batches", "/admin/batches/new")
    yield from (f"/admin/batches/{batch}?rate=20", "/admin/guidelines", "/admin/gold", f"/admin/gold/{task}")
    yield from (f"/admin/gold/{gold}", "/admin/members", f"/admin/members/{person}", f"/admin/members/{person}/erase")
    yield f"/admin/batches/choose/{batch}"
    yield from ("/admin/quality", "/admin/bias", "/admin/content", f"/admin/content/{prompt}", "/admin/import")
    yield from ("/admin/snapshots", "/admin/snapshots/new", f"/admin/snapshots/{snapshot}")
    yield from (
        "/admin/lineage?run=runs/one",
        "/admin/lineage?labeler=L-ann",
        "/admin/log?verify=yes",
        "/admin/settings",
    )


def fill(site: Site, *, reason: str = "Because.", run: str = "runs/one") -> None:
    judge(site, "ann", "bob", "cid", reason=reason, flag="off_topic")
    made = create_snapshot(
        site.project.database, site.project.folder, Recipe.model_validate({"name": "people"}), by=None
    )
    with site.project.database.write() as c:
        lineage.record_use(c, made.id, run, "reward")
        guidelines.save_draft(c, "# The next version\n\nBe kind.", (Flag("kind", "Kind"),), by=None)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 800}, NARROW])
def test_axe_finds_nothing_on_admin_pages_and_nothing_is_wider_than_the_screen(site: Site, tab, scheme, viewport):
    fill(site)
    one: Tab = tab("owner", color_scheme=scheme, viewport=viewport)
    for address in addresses(site):
        answer = one.page.goto(address)
        assert answer is not None
        assert answer.status == 200, address
        one.page.evaluate(OPEN_ALL)
        assert_accessible(one.page, address)


def test_axe_finds_nothing_on_the_quality_page(site: Site, tab):
    fill(site)
    one: Tab = tab("admin", viewport=NARROW, color_scheme="dark")
    one.page.goto("/admin/quality")
    assert_accessible(one.page, "quality")


@pytest.mark.slow
def test_a_reviewer_decides_and_voids_without_javascript(site: Site, tab):
    fill(site)
    one: Tab = tab("reviewer", java_script_enabled=False)
    one.page.goto("/review")
    one.page.get_by_role("link", name="Look at task 1").click()
    one.page.locator("summary", has_text="Void the answer of L-cid").click()
    one.page.get_by_label("Why", exact=True).and_(one.page.locator(":visible")).fill("upside down")
    one.page.get_by_role("button", name="Let it count no more").and_(one.page.locator(":visible")).click()
    expect(one.page.get_by_role("status")).to_contain_text("Voided")
    for number, letter in enumerate("ABCD"):
        group = one.page.get_by_role("group", name=f"Rank of {letter}")
        group.locator(".segment").nth(number // 2).click()
    one.page.get_by_label("Why people disagreed").select_option("mistake")
    one.page.get_by_label("Note").fill("The third one read the scale upside down.")
    one.page.get_by_role("button", name="Decide").click()
    expect(one.page.get_by_role("status")).to_contain_text("Decided")
    decided = rows(site, tables.adjudication)[0]
    assert sorted(decided.tiers.values()) == [1, 1, 2, 2]


@pytest.mark.slow
def test_an_admin_goes_from_a_file_to_a_snapshot(site: Site, tab, tmp_path):
    """Import, batch, run; people judge; figures; a snapshot, and its file in hand."""
    file = tmp_path / "answers.jsonl"
    asked = [{"prompt": f"What is {n} plus {n}?", "responses": [str(2 * n), f"About {n}."]} for n in range(40)]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in asked), encoding="utf-8")
    one: Tab = tab("admin")
    one.page.goto("/admin")
    one.page.get_by_role("link", name="Import", exact=True).click()
    one.page.get_by_label("The file holds").select_option("responses")
    one.page.get_by_label("File", exact=True).set_input_files(file)
    one.page.get_by_role("button", name="Check the file").click()
    expect(one.page.locator("#result")).to_contain_text("would bring")
    one.page.get_by_role("button", name="Import it").click()
    one.page.get_by_role("link", name="Make a batch of them").click()
    one.page.get_by_role("link", name="New batch").click()
    one.page.get_by_label("Name").fill("Sums")
    one.page.get_by_label("People who judge each task").fill("2")
    one.page.get_by_role("button", name="Make the batch").click()
    one.page.get_by_label("From").select_option(label="import: answers.jsonl")
    one.page.get_by_label("Split").select_option("train")
    one.page.get_by_role("button", name="Add them").click()
    expect(one.page.get_by_text("tasks added")).to_be_visible()
    one.page.get_by_role("button", name="Run").click()
    expect(one.page.get_by_role("status")).to_contain_text("running")
    site.batches["Sums"] = next(row.id for row in rows(site, tables.batch) if row.name == "Sums")
    judge(site, "ann", batch="Sums")
    judge(site, "bob", batch="Sums")
    one.page.get_by_role("link", name="Quality").click()
    expect(one.page.locator(".lead")).to_contain_text("by 2 people")
    one.page.get_by_role("link", name="Snapshots").click()
    one.page.get_by_role("link", name="Make a snapshot").click()
    one.page.get_by_role("button", name="Preview").click()
    expect(one.page.locator("#preview")).to_be_visible()
    one.page.get_by_role("button", name="Make it").click()
    expect(one.page.locator("h1")).to_have_text("people v1")
    with one.page.expect_download() as download:
        one.page.get_by_role("link", name="Download").click()
    lines = download.value.path().read_text(encoding="utf-8").splitlines()
    assert len(lines) == rows(site, tables.snapshot)[0].rows > 20


def fill_with_hostile_text(site: Site) -> list[str]:
    """All of the corpus in prompts, answers, reasons, names, guidelines, origins and runs; the pages that show it."""
    words = "\n\n".join(CORPUS)
    add_hostile_batch(site, words, SHORT)
    fill(site, reason=words[:15_000], run=f"runs/{SHORT}")
    with site.project.database.write() as c:
        guidelines.save_draft(c, words, [Flag("bad", SHORT, SHORT)], by=None)
    site.add_person(SHORT)
    pages = [path for path in addresses(site) if path != "/admin/lineage?run=runs/one"]
    tasks = [f"/review/{row.task_id}" for row in rows(site, tables.task_response) if row.slot == 0]
    return [*pages, *tasks, "/admin/lineage", "/admin/content?q=<script>&tag=%22%3E<img>", "/admin/snapshots/new"]


def test_hostile_text_is_escaped_on_every_admin_page(site: Site):
    client = site.client("owner")
    for path in fill_with_hostile_text(site):
        answer = client.get(path)
        assert answer.status_code == 200, path
        html = answer.text.replace('<script type="module" src="/static/page.js"></script>', "")
        assert not re.search(r"<(script|img|iframe|object|embed|base|style|video|template)\b", html, re.IGNORECASE), (
            path
        )
        assert not re.search(r"<[a-z][^<>]*\son\w+\s*=", re.sub(r'"[^"]*"', '""', html), re.IGNORECASE), path
        shown = re.sub(r'<textarea.*?</textarea>| value="[^"]*"', "", html, flags=re.DOTALL)  # what is edited stays
        assert "\u202e" not in shown, path


@pytest.mark.slow
def test_hostile_text_does_nothing_on_any_admin_page(site: Site, tab):
    pages = fill_with_hostile_text(site)
    one: Tab = tab("owner")
    one.context.add_init_script("window.pwned = undefined")
    for path in pages:
        one.page.goto(path)
        one.page.evaluate(OPEN_ALL)
        assert_inert(one)
    one.page.goto("/admin/settings")
    one.page.get_by_label("Whom labelers can ask").fill(SHORT)
    one.page.get_by_label("Question", exact=True).first.fill(SHORT)
    one.page.get_by_role("button", name="Save").click()
    assert_inert(one)
    one.page.goto("/admin/members")
    one.page.get_by_label("Note for yourself").fill(SHORT)
    one.page.get_by_role("button", name="Make an invitation").click()
    assert_inert(one)
    one.page.goto("/admin/import")
    lines = json.dumps({"question": SHORT}).encode()
    one.page.get_by_label("File", exact=True).set_input_files(
        {"name": f"{SHORT}.jsonl".replace("/", ""), "mimeType": "application/json", "buffer": lines}
    )
    one.page.get_by_role("button", name="Check the file").click()
    expect(one.page.locator("#faults")).to_be_visible()
    assert_inert(one)
    assert re.search("pwned", one.page.content()), "the words are shown, and do nothing"


def add_hostile_batch(site: Site, words: str, name: str) -> None:
    """In place of the tasks that people judge: the same batch, with hostile prompts and answers among them."""
    with site.project.database.write() as c:
        origin = content.add_origin(c, "model", name, {name: words[:2000], "checkpoint": name})
        tags = (name[:50],)
        prompt = content.add_prompts(c, [content.NewPrompt((Message("user", words),), origin, tags=tags)]).ids[0]
        parts = ["\n\n".join(CORPUS[start::4]) for start in range(4)]
        ids = content.add_responses(c, prompt, parts, origin, [{"finish": name}] * 4)
        add_tasks(c, site.batches[BATCH], [NewTask(prompt, tuple(ids))])
        create_batch(c, name, "ranking", "work", BatchConfig(), by=None)
        added = create_batch(c, f"running {name}", "ranking", "work", BatchConfig(), by=None)
        add_tasks(c, added, [NewTask(prompt, tuple(ids))])
        set_status(c, added, "running", by=None)
