import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_runs import HOSTILE, write_dpo, write_evaluation, write_ppo, write_reward, write_sft

from plaudit.core.errors import RunError
from plaudit.core.files import sha256_tree
from plaudit.reports.report import build

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Reads a page strictly: every element closes, in order; collects elements, attributes and text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.ids: list[str] = []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text += data

    def tags(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def policy_of(page: Page) -> str:
    return next(a["content"] or "" for a in page.tags("meta") if a.get("http-equiv") == "Content-Security-Policy")


def sections(page: Page) -> list[str | None]:
    return [attributes["id"] for attributes in page.tags("section")]


def test_a_loop_of_runs_is_told_in_order(loop: Path):
    page = read(build([loop]))
    assert sections(page) == [
        "judges",
        "stages",
        "curves",
        "over-optimisation",
        "reward-model",
        "data",
        "samples",
        "warnings",
        "time",
        "environment",
        "lineage",
        "settings",
    ]
    headline = page.text.split("Who judges")[0]
    assert (
        "Win rate of ppo against sft by true preference: 71.2\u00a0% (66.5 to 75.9), where 50 % is no difference"
        in headline
    )
    assert "270 won, 30 tied, 100 lost, 2 unscored; 100 prompts" in headline
    assert "accuracy on pairs of unseen prompts: 73.3\u00a0% (71.4 to 75.2)" in headline
    assert "The labelers of this run are simulated." in headline
    assert "length-only rule 55.1\u00a0%" in headline
    assert "The judge stopped rising at sqrt(KL) = 2.00 (step 30, score 1.8)" in page.text
    assert "ppo-free: not finished" in page.text


def test_the_training_reward_is_no_headline(loop: Path):
    headline = read(build([loop])).text.split("Who judges")[0]
    assert "by reward model" not in headline
    assert "raining reward" not in headline


@pytest.mark.parametrize("write", [write_sft, write_reward, write_ppo, write_dpo, write_evaluation])
def test_every_stage_has_a_page_of_its_own(tmp_path: Path, write):
    (tmp_path / "sft" / "model").mkdir(parents=True)
    run = tmp_path / "run"
    write(run)
    path = build([run])
    assert path == run / "report.html"
    assert "stages" in sections(read(path))


def test_the_headline_of_dpo_names_chance(tmp_path: Path):
    write_dpo(tmp_path / "dpo")
    headline = read(build([tmp_path / "dpo"])).text.split("Who judges")[0]
    assert "accuracy on pairs of unseen prompts: 66.0\u00a0% (61.0 to 71.0), where 50 % is chance" in headline


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path):
    (tmp_path / "sft" / "model").mkdir(parents=True)
    write_ppo(tmp_path / "run", finish=False, steps=0)
    assert "not finished" in read(build([tmp_path / "run"])).text


def test_hostile_text_is_shown_and_does_nothing(loop: Path):
    path = build([loop])
    source, page = path.read_text(encoding="utf-8"), read(path)
    assert "<script>alert('x')</script>" in page.text  # the reader sees what the model wrote
    assert not page.tags("script")
    assert not page.tags("img")
    assert not {c for c in HOSTILE if ord(c) < 32 or c in "\u202e\u2066\ud800"} & set(source)
    handlers = [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
    assert not handlers
    assert "style" not in {key for _, attributes in page.elements for key in attributes}


def test_hostile_names_of_folders_and_settings_are_escaped(tmp_path: Path):
    evil = tmp_path / "<img src=x onerror=alert(1)>"
    (tmp_path / "sft" / "model").mkdir(parents=True)
    write_ppo(evil)
    page = read(build([evil], tmp_path / "report.html"))
    assert not page.tags("img")
    assert "<img src=x onerror=alert(1)>" in page.text


def test_the_page_needs_nothing_and_forbids_everything(loop: Path):
    source = build([loop]).read_text(encoding="utf-8")
    page = Page(source)
    policy = policy_of(page)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not page.tags("link")
    targets = [a[key] for _, a in page.elements for key in ("src", "href") if key in a]
    assert all(target and target.startswith("#") for target in targets)
    assert "url(" not in source
    assert "@import" not in source


def test_the_policy_admits_the_very_style_sheet_of_the_page(loop: Path):
    source = build([loop]).read_text(encoding="utf-8")
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy_of(Page(source))


def test_readers_who_do_not_see_get_the_same_numbers(loop: Path):
    page = read(build([loop]))
    drawings = [a for a in page.tags("svg") if a.get("aria-hidden") != "true"]
    assert len(drawings) > 20
    assert all(a.get("role") == "img" and a.get("aria-label") for a in drawings)
    assert len(page.tags("table")) == len(page.tags("caption"))
    headers = page.tags("th")
    assert headers
    assert all(a.get("scope") in ("col", "row") for a in headers)
    identities = [a["id"] for _, a in page.elements if "id" in a]
    assert len(identities) == len(set(identities))
    assert {a["href"].removeprefix("#") for a in page.tags("a")} <= set(identities)
    assert page.tags("html")[0]["lang"] == "en"


def test_lineage_names_the_run_that_made_an_input(loop: Path):
    text = read(build([loop])).text.split("Lineage")[-1]
    digest = sha256_tree(loop / "sft" / "model")
    assert f"{digest[:12]} made by sft, model" in text
    assert text.count(digest[:12]) == 3  # made by sft, used by both PPO runs


def test_samples_are_drawn_by_the_seed_and_the_worst_are_shown(loop: Path):
    first, second = (build([loop], loop / f"{i}.html").read_text(encoding="utf-8") for i in range(2))
    assert first == second
    text = Page(first).text
    assert "6 of 40, drawn at random" in text
    assert "largest step back" in text
    rows = [json.loads(line) for line in (loop / "evaluation" / "samples.jsonl").read_text().splitlines()]
    scored = [row for row in rows if row["score_a"] is not None]
    worst = min(scored, key=lambda row: row["score_a"] - row["score_b"])
    assert worst["prompt"] in text


def test_an_unscored_answer_is_called_unscored(tmp_path: Path):
    write_evaluation(tmp_path / "evaluation")
    samples = tmp_path / "evaluation" / "samples.jsonl"
    samples.write_text(samples.read_text().splitlines()[0] + "\n")
    assert "judge: unscored" in read(build([tmp_path / "evaluation"])).text


def test_a_ppo_run_without_a_judge_says_so(tmp_path: Path):
    (tmp_path / "sft" / "model").mkdir(parents=True)
    run = tmp_path / "run"
    write_ppo(run, finish=False)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("judge: rule.py:score", "judge: none"))
    assert "has no independent judge" in read(build([run])).text


def test_a_row_that_is_still_being_written_is_left_out(tmp_path: Path):
    write_sft(tmp_path / "sft")
    with open(tmp_path / "sft" / "metrics.jsonl", "a") as log:
        log.write('{"step": 401, "loss": 1.')
    assert "401" not in read(build([tmp_path / "sft"])).text


def test_what_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match="no run folder"):
        build([tmp_path])
    write_sft(tmp_path / "sft")
    (tmp_path / "sft" / "summary.json").write_text("{")
    with pytest.raises((RunError, ValueError)):
        build([tmp_path / "sft"])


def test_reports_leave_torch_alone(loop: Path):
    code = (
        "import sys; from pathlib import Path; from plaudit.reports.report import build; "
        "from plaudit.reports.terminal import overview; "
        f"build([Path({str(loop)!r})]); overview([Path({str(loop)!r})]); "
        "heavy = {'torch', 'transformers', 'peft', 'datasets'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
