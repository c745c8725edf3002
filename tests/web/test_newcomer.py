"""A newcomer's whole way: label a task in each mode, see quality and bias, make a snapshot, train on it, find it in the
lineage. In a real Chromium; the slow test does all of it on the demo, as `plaudit label --demo` serves it.
"""

import json
import shlex
import time
from pathlib import Path
from typing import Any

import pytest
from judged import judge
from playwright.sync_api import Browser, Page, expect
from pydantic import Field
from server_process import read_line, served
from sites import Site
from typer.testing import CliRunner

from plaudit.cli.app import app
from plaudit.core.config import Config
from plaudit.core.run import Run
from plaudit.datasets.read import read_rankings

ANSWER = "Open the window for five minutes, because fresh air is drier than the air in a room."


class _Settings(Config):
    run: Path = Field(description="Run.")


def test_judgments_made_in_the_browser_are_found_behind_a_model(site: Site, tab, tmp_path: Path):
    """The fast part: a run that trains nothing and only writes down what it was given."""
    judge(site, "ann", "bob")
    labeler, admin = tab(), tab("admin")
    label_in_each_mode(labeler.page)
    look_at_figures(admin.page, "Two of them put")
    data, project = make_snapshot(admin.page, "rankings")
    rows = read_rankings(data)
    run = tmp_path / "model"
    with Run.open(run, stage="reward", config=_Settings(run=run), inputs=rows.inputs("data")) as opened:
        opened.finish({})
    find_in_lineage(admin.page, run, project, ["L-labeler", "L-ann", "L-bob"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_demo_from_the_first_command_to_a_trained_model(browser: Browser, tiny_policy_folder: Path, tmp_path: Path):
    started = time.monotonic()
    with served("--demo", "port=0") as (process, address):
        doors = [read_line(process, r"(http://\S+/enter/\S+) +(.+)").groups() for _ in range(4)]
        assert time.monotonic() - started < 60, "a minute until pages can be looked at"
        pages = {label.partition(",")[0]: enter(browser, door) for door, label in doors}
        labeler, owner = pages["Labeler at work"], pages["Owner"]
        # Up to three of them may be gold questions, which are never data.
        label_in_each_mode(labeler, rankings=6)
        pseudonym = labeler.locator(".figures dd").last.inner_text()
        look_at_figures(owner, "inverted")
        runs: list[str] = []
        for kind, stage in (("demonstrations", "sft"), ("rankings", "reward")):
            data, project = make_snapshot(owner, kind, "simulated")
            run = tmp_path / stage
            layers = [f"model={tiny_policy_folder}", "train_layers=2", "precision=float32", "epochs=1"]
            plaudit(stage, f"data={data}", f"run={run}", *layers)
            runs.append(find_in_lineage(owner, run, project, [pseudonym, "careful-1"]))
        owner.goto(f"{address}/admin/lineage?labeler={pseudonym}")
        for run in runs:
            expect(owner.locator("main")).to_contain_text(run)


def plaudit(*arguments: str) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, f"{arguments}: {result.stderr[-2000:]} {result.exception!r}"
    return json.loads(result.stdout)


def enter(browser: Browser, door: str) -> Page:
    """Through a door of the demo."""
    page = browser.new_context(base_url=door.partition("/enter/")[0]).new_page()
    page.set_default_timeout(60_000)
    page.goto(door)
    page.get_by_role("button", name="Enter").click()
    page.wait_for_url(lambda url: "/enter/" not in url)
    return page


def label_in_each_mode(page: Page, *, rankings: int = 1) -> None:
    """Write an answer and rank answers, one task after the other; ends on the home page."""
    for words, times in (("write ideal answers", 1), ("rank answers", rankings)):
        page.goto("/")
        page.locator("section", has_text=words).first.get_by_role("button").click()
        page.wait_for_url("**/work/*")
        for _ in range(times):
            before = page.url
            if words.startswith("write"):
                page.locator("#text").fill(ANSWER)
            else:
                for key in "2143":
                    page.keyboard.press(key)
                expect(page.locator("#order")).to_have_text("B > A > D > C")
            page.locator("#submit").click()
            page.wait_for_url(lambda url, before=before: "done=" in url and url != before)
    page.goto("/")


def look_at_figures(page: Page, words: str) -> None:
    page.goto("/admin/quality")
    expect(page.locator("main")).to_contain_text(words)
    expect(page.locator("figure svg").first).to_be_visible()
    page.goto("/admin/bias")
    expect(page.locator("h2").first).to_have_text("Everybody together")


def make_snapshot(page: Page, kind: str, *others: str) -> tuple[str, str]:
    """A data set of what people (and others) judged, made in the page: its file, and `project=…` of the commands."""
    page.goto("/admin/snapshots/new")
    page.get_by_label("Name").fill(kind)
    page.get_by_label("Holds").select_option(kind)
    for labelers in ("person", "simulated", "ai"):
        page.locator(f"input[name=labelers][value={labelers}]").set_checked(labelers in ("person", *others))
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("heading", name="What this recipe takes")).to_be_visible()
    page.get_by_role("button", name="Make it").click()
    train, record = page.locator("#train + pre").inner_text().splitlines()
    data = next(one for one in shlex.split(train) if one.startswith("data="))
    assert shlex.split(train)[1] == ("sft" if kind == "demonstrations" else "reward")
    return data.removeprefix("data="), shlex.split(record)[-1]


def find_in_lineage(page: Page, run: Path, project: str, names: list[str]) -> str:
    """Let the project know of the run, and look for those who judged. The run as the project calls it."""
    called = plaudit("lineage", f"run={run}", project)["run"]
    page.goto("/admin/lineage")
    page.get_by_label("A model's run").select_option(called)
    page.get_by_role("button", name="What made it").click()
    for name in names:
        expect(page.locator(".card table")).to_contain_text(name)
    return called
