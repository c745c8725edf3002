"""Ranking by dragging letters, with a mouse and with a finger; an addition to radios and keys, which go on working."""

import re
import time

import pytest
from playwright.sync_api import Locator, Page, expect
from sites import Site
from sqlalchemy import select
from tabs import NARROW, Tab, assert_accessible

from plaudit.feedback.content import content
from plaudit.feedback.store import tables
from plaudit.feedback.tasks.batches import BatchConfig, create_batch, set_status
from plaudit.feedback.tasks.tasks import NewTask, add_tasks

HOUSEHOLD = "Household questions"


class Mouse:
    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, x: float, y: float) -> None:
        self.page.mouse.move(x, y)
        self.page.mouse.down()

    def move(self, x: float, y: float) -> None:
        self.page.mouse.move(x, y, steps=3)

    def let_go(self) -> None:
        self.page.mouse.up()


class Finger:
    """A finger on the screen, as the browser itself gets it: scrolling and all."""

    def __init__(self, page: Page) -> None:
        self.session = page.context.new_cdp_session(page)
        self.at = (0.0, 0.0)

    def _send(self, kind: str, *points: tuple[float, float]) -> None:
        sent = {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]}
        self.session.send("Input.dispatchTouchEvent", sent)

    def press(self, x: float, y: float) -> None:
        self.at = (x, y)
        self._send("touchStart", self.at)

    def move(self, x: float, y: float) -> None:
        for step in (0.3, 0.6, 1.0):
            self._send("touchMove", (self.at[0] + step * (x - self.at[0]), self.at[1] + step * (y - self.at[1])))
        self.at = (x, y)

    def let_go(self) -> None:
        self._send("touchEnd")


def middle(place: Locator) -> tuple[float, float]:
    box = place.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def height(place: Locator) -> float:
    box = place.bounding_box()
    assert box is not None
    return box["height"]


def drag(hand: Mouse | Finger, grip: Locator, place: Locator) -> None:
    hand.press(*middle(grip))
    hand.move(*middle(place))
    hand.let_go()


def chip(page: Page, letter: str) -> Locator:
    return page.locator(f"#tiers .chip[data-letter={letter}]")


def gap(page: Page, at: int) -> Locator:
    return page.locator(f"#tiers .gap[data-at='{at}']")


def is_order(page: Page, words: str) -> None:
    expect(page.locator("#order")).to_have_text(words)


@pytest.mark.parametrize("kind", [Mouse, Finger])
def test_four_answers_are_ranked_with_four_drags(site: Site, tab, kind):
    options = {"viewport": NARROW, "has_touch": True} if kind is Finger else {}
    one = tab(**options)
    path = one.claim(site.batches[HOUSEHOLD])
    page, hand = one.page, kind(one.page)
    page.locator("#answer-B").scroll_into_view_if_needed()  # the bar sticks to the screen once the answers are on it
    started = time.monotonic()
    drag(hand, chip(page, "C"), gap(page, 0))  # the first goes where it says "Drag here"
    is_order(page, "C; A, B, D to go")
    drag(hand, chip(page, "A"), gap(page, 1))  # behind
    drag(hand, chip(page, "D"), chip(page, "A"))  # onto another: a tie
    is_order(page, "C > A = D; B to go")
    drag(hand, chip(page, "B"), gap(page, 1))  # between two
    is_order(page, "C > B > A = D")
    assert time.monotonic() - started < 15  # a browser on a busy machine; four movements of a hand
    drag(hand, chip(page, "C"), gap(page, 3))  # and again, when all are ranked
    is_order(page, "B > A = D > C")
    drag(hand, chip(page, "A"), gap(page, 0))  # out of a tie
    is_order(page, "A > B > D > C")
    checked = page.locator(".ranks input:checked").evaluate_all("(radios) => radios.map((one) => one.value).join('')")
    assert checked == "1243"
    expect(page.locator("#saved")).to_contain_text("Draft saved")
    page.reload()
    is_order(page, "A > B > D > C")
    page.locator("#submit").click()
    page.wait_for_url(re.compile(r"\?done="))
    assert page.url.split("?")[0] != path
    with site.project.database.read() as c:
        tiers = c.execute(select(tables.ranking_entry.c.tier)).scalars().all()
    assert sorted(tiers) == [1, 2, 3, 4]


def test_a_drag_that_leads_nowhere_changes_nothing(site: Site, tab):
    one = tab()
    one.claim(site.batches[HOUSEHOLD])
    page, mouse = one.page, Mouse(one.page)
    page.keyboard.press("2")
    is_order(page, "A; B, C, D to go")
    drag(mouse, chip(page, "B"), page.locator("h1"))
    is_order(page, "A; B, C, D to go")
    mouse.press(*middle(chip(page, "B")))
    mouse.move(*middle(gap(page, 0)))
    expect(page.locator(".chip.ghost")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".chip.ghost")).to_have_count(0)
    mouse.let_go()
    is_order(page, "A; B, C, D to go")
    mouse.press(*middle(chip(page, "B")))
    mouse.move(*middle(gap(page, 1)))
    page.keyboard.press("1")  # the keyboard ranks meanwhile, which draws the letters anew
    mouse.let_go()
    is_order(page, "B > A; C, D to go")
    drag(mouse, page.locator("#answer-C .letter"), chip(page, "A"))  # the letter of the answer itself
    is_order(page, "B > A = C; D to go")
    drag(mouse, chip(page, "A"), page.locator("#tiers .tray"))  # taken back
    is_order(page, "B > C; A, D to go")
    chip(page, "D").click()  # a click goes to the answer
    expect(page.locator("#answer-D")).to_have_class(re.compile("current"))
    is_order(page, "B > C; A, D to go")


def test_nine_answers_have_room_on_a_narrow_screen(site: Site, tab):
    batch = nine_answers(site)
    one = tab(viewport=NARROW, has_touch=True)
    one.claim(batch)
    page, finger = one.page, Finger(one.page)
    assert_accessible(page, "nothing ranked")
    page.locator("#answer-B").scroll_into_view_if_needed()
    for number, letter in enumerate("IHGFEDCBA"):
        drag(finger, chip(page, letter), gap(page, number))
    is_order(page, "I > H > G > F > E > D > C > B > A")
    assert_accessible(page, "all ranked")
    assert height(page.locator(".work-bar")) < 0.5 * NARROW["height"], "the bar hides the answers"
    assert min(height(one) for one in page.locator("#tiers .chip").all()) >= 44


def test_without_javascript_there_is_no_strip(site: Site, tab):
    one: Tab = tab(java_script_enabled=False)
    one.claim(site.batches[HOUSEHOLD])
    assert not one.page.locator("#tiers").is_visible()
    assert not one.page.locator("#drag-hint").is_visible()
    assert one.page.locator("#order").is_visible()


def nine_answers(site: Site) -> str:
    with site.project.database.write() as c:
        origin = content.add_origin(c, "model", "a model", {})
        nine = BatchConfig.model_validate({"responses_per_task": 9})
        batch = create_batch(c, "Nine", "ranking", "work", nine, by=None)
        prompt_id = c.execute(select(tables.prompt.c.id)).scalars().first() or ""
        ids = content.add_responses(c, prompt_id, [f"Answer number {number}" for number in range(9)], origin)
        add_tasks(c, batch, [NewTask(prompt_id, tuple(ids))])
        set_status(c, batch, "running", by=None)
    return batch
