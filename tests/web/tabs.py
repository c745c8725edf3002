"""Pages in a real Chromium, of people who are signed in; what goes wrong on them is a failed test."""

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import chromium, serving
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from sites import Site

NARROW = {"width": 320, "height": 640}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = chromium(playwright)
        yield launched
        launched.close()


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    with serving(site.app) as found:
        yield found


class Tab:
    """A page of somebody who is signed in, and all that went wrong on it."""

    def __init__(self, browser: Browser, address: str, site: Site, name: str | None, **options) -> None:
        self.context: BrowserContext = browser.new_context(base_url=address, **options)
        if name is not None:
            self.context.add_cookies([{"name": site.cookie, "value": site.session(name), "url": address}])
        self.faults: list[str] = []
        self.context.on("request", lambda request: self.note_foreign(request.url, address))
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("pageerror", lambda error: self.faults.append(f"script error: {error}"))
        self.page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        self.page.on("console", lambda message: self.note_console(message.type, message.text))

    def note_foreign(self, url: str, address: str) -> None:
        if not url.startswith(address):
            self.faults.append(f"foreign request: {url}")

    def note_console(self, kind: str, text: str) -> None:
        if kind == "error" and "status of 4" not in text:
            self.faults.append(f"console: {text}")

    def claim(self, batch_id: str) -> str:
        """Take a task of the batch from the home page. Returns its address."""
        self.page.goto("/")
        self.page.locator(f"form:has(input[value='{batch_id}']) button").click()
        self.page.wait_for_url("**/work/*")
        return self.page.url

    def check(self) -> None:
        assert self.faults == []
        self.context.close()


@pytest.fixture
def tab(browser: Browser, address: str, site: Site):
    """Opens tabs; at the end of the test none of them may have had a fault."""
    opened: list[Tab] = []

    def opener(name: str | None = "labeler", **options) -> Tab:
        opened.append(Tab(browser, address, site, name, **options))
        return opened[-1]

    yield opener
    for one in opened:
        one.check()


def assert_accessible(page: Page, name: str) -> None:
    found = Axe().run(page).response["violations"]
    told = [f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes']]}" for one in found]
    assert told == [], name
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"


def assert_inert(one: Tab) -> None:
    one.page.wait_for_load_state()
    assert one.page.evaluate("window.pwned === undefined"), one.page.url
    scripts = one.page.evaluate("[...document.querySelectorAll('script')].map((one) => one.getAttribute('src'))")
    assert all((script or "").startswith("/static/") for script in scripts)
    assert one.page.locator("main :is(img, iframe, object, embed, base, style, link, video)").count() == 0
    assert one.faults == []
