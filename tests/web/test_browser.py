"""The labeler's pages in a real Chromium: by keyboard, by mouse, without JavaScript, narrow, dark, and under attack."""

import re
from collections.abc import Iterator
from functools import partial

import pytest
from hostile import CORPUS
from markupsafe import Markup
from playwright.sync_api import Page, expect
from sites import Site
from tabs import NARROW, Tab, assert_accessible, assert_inert

from plaudit.core.records import Message
from plaudit.feedback.content import content
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.tasks.batches import BatchConfig, create_batch, set_status
from plaudit.feedback.tasks.guidelines import Flag
from plaudit.feedback.tasks.tasks import NewTask, add_tasks


def test_four_answers_are_ranked_with_five_keys(site: Site, tab):
    one = tab()
    path = one.claim(site.batches["Household questions"])
    expect(one.page.locator("#order")).to_have_text("Nothing ranked yet")
    for key in "2124":
        one.page.keyboard.press(key)
    expect(one.page.locator("#order")).to_have_text("B > A = C > D")
    one.page.keyboard.press("c")
    one.page.keyboard.press("1")
    expect(one.page.locator("#order")).to_have_text("B = C > A > D")
    expect(one.page.locator("#saved")).to_contain_text("Draft saved")
    one.page.keyboard.press("Control+Enter")
    one.page.wait_for_url(re.compile(r"/work/\w+\?done="))
    assert one.page.url.split("?")[0] != path
    one.page.get_by_role("button", name="Undo").click()
    one.page.wait_for_url(f"{path}?note=undone")
    expect(one.page.locator("#order")).to_have_text("B = C > A > D")


def test_keys_do_nothing_in_text_fields_and_when_switched_off(site: Site, tab):
    one = tab()
    one.claim(site.batches["Household questions"])
    one.page.locator("#reason").fill("")
    one.page.locator("#reason").press_sequentially("a1 b2 n?")
    expect(one.page.locator("#order")).to_have_text("Nothing ranked yet")
    assert one.page.locator("#reason").input_value() == "a1 b2 n?"
    assert not one.page.locator("#none").is_checked()
    one.page.locator("h1").click()
    one.page.keyboard.press("?")
    expect(one.page.locator("#help")).to_be_visible()
    one.page.keyboard.press("1")
    one.page.keyboard.press("Escape")
    expect(one.page.locator("#order")).to_have_text("Nothing ranked yet")
    one.page.goto("/profile")
    one.page.get_by_label("Single keys rank answers").uncheck()
    one.page.get_by_role("button", name="Save").click()
    one.page.goto("/")
    one.page.get_by_role("link", name="Open it").click()
    one.page.keyboard.press("1")
    expect(one.page.locator("#order")).to_have_text("Nothing ranked yet")


def test_ranking_by_touch_and_comparing_two(site: Site, tab):
    one = tab(viewport=NARROW, has_touch=True)
    one.claim(site.batches["Household questions"])
    boxes = [box.bounding_box() for box in one.page.locator(".ranks .segment").all()]
    assert min(min(box["width"], box["height"]) for box in boxes) >= 44
    for number, answer in enumerate(one.page.locator(".answer").all(), start=1):
        answer.locator(".segment").nth(number - 1).tap()
    expect(one.page.locator("#order")).to_have_text("A > B > C > D")
    for letter in "BD":
        one.page.locator(f"#compare [data-letter={letter}]").tap()
    assert [one.page.locator(f"#answer-{letter}").is_visible() for letter in "ABCD"] == [False, True, False, True]
    one.page.locator("#compare-all").tap()
    assert one.page.locator("#answer-A").is_visible()


@pytest.mark.slow
def test_a_stale_tab_is_told_and_may_choose(site: Site, tab):
    one, two = tab(), tab()
    path = one.claim(site.batches["Write for the library"])
    two.page.goto(path)
    one.page.locator("#text").fill("from the first tab")
    expect(one.page.locator("#saved")).to_contain_text("Draft saved")
    two.page.locator("#text").fill("from the second tab")
    expect(two.page.locator("#stale")).to_be_visible()
    two.page.get_by_role("button", name="Keep what is on this page").click()
    expect(two.page.locator("#saved")).to_contain_text("Draft saved")
    one.page.locator("#text").fill("from the first tab again")
    expect(one.page.locator("#stale")).to_be_visible()
    one.page.get_by_role("button", name="Load the newer draft").click()
    expect(one.page.locator("#text")).to_have_value("from the second tab")


@pytest.mark.slow
def test_a_whole_journey_by_keyboard(tab):
    """From the home page to a submitted answer, with Tab, Enter, Space and arrows only."""
    one = tab()
    one.page.goto("/")
    reach(one.page, "button", "Start")
    one.page.keyboard.press("Enter")
    one.page.wait_for_url("**/work/*")
    for letter in "ABCD":
        first = one.page.locator(f"#answer-{letter} .ranks input").first
        tab_to(one.page, partial(first.evaluate, "(radio) => radio.name === document.activeElement?.name"))
        one.page.keyboard.press("Space")
        if letter != "A":
            one.page.keyboard.press("ArrowRight")
    expect(one.page.locator("#order")).to_have_text("A > B = C = D")
    reach(one.page, "button", "Submit")
    one.page.keyboard.press("Enter")
    one.page.wait_for_url(re.compile(r"\?done="))
    reach(one.page, "button", "Undo")
    one.page.keyboard.press("Enter")
    one.page.wait_for_url(re.compile("note=undone"))


def reach(page: Page, role, name: str) -> None:
    wanted = page.get_by_role(role, name=name).first
    tab_to(page, partial(wanted.evaluate, "(element) => element === document.activeElement"))


def tab_to(page: Page, is_there) -> None:
    for _ in range(80):
        page.keyboard.press("Tab")
        visible = page.evaluate("""() => {
            const box = document.activeElement.getBoundingClientRect();
            return box.bottom > 0 && box.top < innerHeight;
        }""")
        assert visible, "the focus went off the screen"
        if is_there():
            return
    pytest.fail("the keyboard does not lead there")


def test_a_journey_without_javascript(site: Site, tab):
    one = tab(java_script_enabled=False)
    one.claim(site.batches["Household questions"])
    assert not one.page.locator("#compare").is_visible()
    for number, answer in enumerate(one.page.locator(".answer").all(), start=1):
        answer.locator(".segment").nth(number // 2).click()
    one.page.get_by_role("button", name="Submit, next task").click()
    assert "done=" in one.page.url
    one.page.get_by_role("button", name="Undo").click()
    assert "note=undone" in one.page.url
    assert "A > B = C > D" in one.page.locator("#order").inner_text()


def labeler_pages(one: Tab, site: Site) -> Iterator[str]:
    """Goes to every page of a labeler; yields its name when it is there."""
    for path in ("/", "/guidelines", "/history", "/profile", "/profile/groups", "/qualification", "/nowhere"):
        one.page.goto(path)
        yield path
    one.claim(site.batches["Household questions"])
    yield "ranking"
    one.page.locator("#submit").click()
    one.page.wait_for_selector("#problems")
    yield "ranking with a problem"
    for number, answer in enumerate(one.page.locator(".answer").all()):
        answer.locator(".segment").nth(number).click()
    one.page.locator("#submit").click()
    one.page.wait_for_url(re.compile("done="))
    yield "after a submit"
    one.page.locator(".skip-box summary").click()
    one.page.get_by_role("button", name="Give it back").click()
    one.page.wait_for_url(re.compile("note=released"))
    one.claim(site.batches["Write for the library"])
    yield "writing"
    one.page.goto("/history")
    yield "history"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 800}, NARROW])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(site: Site, tab, scheme, viewport):
    visitor = tab(None, color_scheme=scheme, viewport=viewport)
    visitor.page.goto("/sign-in")
    assert_accessible(visitor.page, "sign in")
    one = tab(color_scheme=scheme, viewport=viewport)
    for name in labeler_pages(one, site):
        assert_accessible(one.page, name)


def test_axe_finds_nothing_on_the_ranking_page(site: Site, tab):
    one = tab(viewport=NARROW)
    one.claim(site.batches["Household questions"])
    assert_accessible(one.page, "ranking")


def test_hostile_text_does_nothing_on_any_page(site: Site, tab):
    """All of the corpus through every field that a model, an admin or a labeler fills in."""
    add_hostile_batches(site)
    one = tab()
    one.context.add_init_script("window.pwned = undefined")
    for name in ("Ranking <script>window.pwned=1</script>", "Writing <img src=x onerror=window.pwned=1>"):
        one.claim(site.batches[name])
        if one.page.locator("#text").count():
            one.page.locator("#text").fill("\n".join(CORPUS)[:100_000])
        one.page.locator("#reason").fill("\n".join(CORPUS)[:15_000])
        for number, answer in enumerate(one.page.locator(".answer").all()):
            answer.locator(".segment").nth(number % 2).click()
        one.page.get_by_role("button", name="Save draft").click()
        one.page.wait_for_url(re.compile("draft_saved"))
        assert_inert(one)
        one.page.locator("#submit").click()
        one.page.wait_for_url(re.compile("done="))
        assert_inert(one)
    for path in ("/", "/guidelines", "/history", "/profile", "/profile/groups", "/?note=<script>&done=<b>"):
        one.page.goto(path)
        for summary in one.page.locator("summary").all():
            summary.click()
        assert_inert(one)


def test_the_policy_alone_stops_scripts_that_the_cleaning_would_let_through(site: Site, tab, monkeypatch):
    for name in ("formatted", "document", "visible"):
        monkeypatch.setitem(site.app.state.site.templates.filters, name, Markup)
    add_hostile_batches(site, keep=lambda text: "refresh" not in text)  # no policy forbids to go elsewhere
    one = tab()
    one.claim(site.batches["Ranking <script>window.pwned=1</script>"])
    assert one.page.locator("main script").count() > 3, "the hole is there"
    one.page.wait_for_timeout(500)
    assert one.page.evaluate("window.pwned === undefined")
    assert any("Content Security Policy" in fault for fault in one.faults)
    assert not any(fault.startswith("dialog") for fault in one.faults)
    one.faults.clear()


def add_hostile_batches(site: Site, keep=lambda _: True) -> None:
    names = "Ranking <script>window.pwned=1</script>", "Writing <img src=x onerror=window.pwned=1>"
    corpus = [text for text in CORPUS if keep(text)]
    parts = ["\n\n".join(corpus[start::9]) for start in range(9)]
    with site.project.database.write() as c:
        flags = [Flag(f"flag_{i}", CORPUS[i], CORPUS[-1 - i]) for i in range(10)]
        guidelines.save_draft(c, "\n\n".join(corpus), flags, by=None)
        guidelines.publish(c, by=None)
        origin = content.add_origin(c, "model", "hostile", {})
        for name, kind in zip(names, ("ranking", "demonstration"), strict=True):
            batch = create_batch(c, name, kind, "work", BatchConfig(), by=None)
            items = []
            for number in range(2):
                roles = ("user", "assistant", "user")
                chat = tuple(Message(role, f"{number} {parts[i]}") for i, role in enumerate(roles))
                prompt = content.add_prompts(c, [content.NewPrompt(chat, origin)]).ids[0]
                ids = content.add_responses(c, prompt, parts, origin) if kind == "ranking" else []
                items.append(NewTask(prompt, tuple(ids)))
            add_tasks(c, batch, items)
            set_status(c, batch, "running", by=None)
            site.batches[name] = batch
