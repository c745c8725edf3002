"""Data sets that never change: the same bytes on both databases, every filter, every aggregation, every source."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from plaudit.core.config import load_config
from plaudit.core.errors import ConfigError, DataError
from plaudit.core.files import read_jsonl, sha256_file, write_jsonl
from plaudit.datasets.manifest import manifest_path
from plaudit.datasets.read import read_any, read_comparisons, read_demonstrations, read_rankings
from plaudit.feedback.content.import_files import check_file
from plaudit.feedback.data.recipe import Recipe
from plaudit.feedback.data.recorded import import_judgments
from plaudit.feedback.data.snapshot_rows import consensus
from plaudit.feedback.data.snapshots import create_snapshot, find_fault, list_snapshots, preview, snapshot_of
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store import clock, tables
from plaudit.feedback.store.database import Database
from plaudit.feedback.tasks.effective import add_event
from populate import (
    add_assignment,
    add_batch,
    add_guideline,
    add_member,
    add_origin,
    add_prompt,
    add_response,
    add_submission,
    add_task,
)

NOON = 1_800_000_000_000


def recipe(**settings: Any) -> Recipe:
    return Recipe.model_validate({"name": "people", **settings})


def bring(database: Database, tmp_path: Path, rows: list[dict[str, Any]], **settings: Any) -> None:
    file = tmp_path / "brought.jsonl"
    write_jsonl(file, rows)
    with database.write() as c, clock.at(NOON):
        import_judgments(c, check_file(file, "rankings"), by=None, **settings)
        c.execute(update(tables.prompt).values(split="train"))


def judged(labeler: str, ranks: list[int], prompt: str = "Say.", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "responses": ["one", "two", "three"], "ranks": ranks, "labeler": labeler, **more}


PANEL = [
    judged("a", [1, 2, 3]),
    judged("b", [1, 3, 2]),
    judged("c", [1, 2, 2]),
    judged("a", [2, 2, 2], "Tie."),
    judged("b", [1, 1, 1], "Tie."),
]


def rows_of(database: Database, folder: Path, **settings: Any) -> list[dict[str, Any]]:
    made = create_snapshot(database, folder, recipe(**settings), by=None)
    return list(read_jsonl(made.path(folder)))


def test_each_ranking_is_a_row_with_its_labeler(sqlite_database: Database, tmp_path: Path) -> None:
    bring(sqlite_database, tmp_path, PANEL)
    found = rows_of(sqlite_database, tmp_path)
    said = {
        (row["prompt"][0]["content"], row["labeler"]): dict(zip(row["responses"], row["ranks"], strict=True))
        for row in found
    }
    assert len(found) == 5
    assert said["Say.", "b"] == {"one": 1, "two": 3, "three": 2}
    assert said["Tie.", "a"] == {"one": 1, "two": 1, "three": 1}
    assert len(rows_of(sqlite_database, tmp_path, ties="drop")) == 3


def test_pairs_each_by_majority_and_without_ties(sqlite_database: Database, tmp_path: Path) -> None:
    bring(sqlite_database, tmp_path, PANEL)
    each = rows_of(sqlite_database, tmp_path, kind="comparisons")
    assert Counter(row.get("label", 1.0) for row in each) == {1.0: 8, 0.5: 7}
    majority = rows_of(sqlite_database, tmp_path, kind="comparisons", aggregate="majority")
    said = {
        (row["chosen"], row["rejected"]): row.get("label", 1.0)
        for row in majority
        if row["prompt"][0]["content"] == "Say."
    }
    assert said == {("one", "two"): 1.0, ("one", "three"): 1.0, ("three", "two"): 0.5}
    assert len(rows_of(sqlite_database, tmp_path, kind="comparisons", aggregate="majority", ties="drop")) == 2


@pytest.mark.parametrize(
    ("rankings", "expected"),
    [
        ([(1, 2, 3), (1, 3, 2), (1, 2, 2)], (1, 2, 2)),
        ([(1, 2, 3), (2, 3, 1), (3, 1, 2)], (1, 1, 1)),  # everybody beats somebody: no order is the majority's
        ([(1, 2, 3), (1, 2, 3), (3, 2, 1)], (1, 2, 3)),
        ([(1, 1)], (1, 1)),
    ],
)
def test_a_consensus_is_the_majority_of_each_pair(rankings: list[tuple[int, ...]], expected: tuple[int, ...]) -> None:
    assert consensus(rankings) == expected
    turned = [ranks[::-1] for ranks in rankings]
    assert consensus(turned) == expected[::-1]


def test_reliability_becomes_soft_labels_and_weights(sqlite_database: Database, tmp_path: Path) -> None:
    rows = []
    for number in range(60):
        truth = [1, 2, 3]
        rows += [judged(name, truth, f"Prompt {number}.") for name in ("a", "b", "c")]
        rows.append(judged("liar", truth[::-1], f"Prompt {number}."))
    bring(sqlite_database, tmp_path, rows)
    weights = {row["labeler"]: row["weight"] for row in rows_of(sqlite_database, tmp_path, aggregate="soft")}
    assert set(weights) == {"a", "b", "c"}, "who is always wrong weighs nothing, and is no row"
    assert weights["a"] == weights["b"] == weights["c"] > 1
    pairs = rows_of(sqlite_database, tmp_path, kind="comparisons", aggregate="soft")
    assert {row["chosen"] for row in pairs} == {"one", "two"}
    assert all(row.get("label", 1.0) > 0.97 for row in pairs)
    lonely = [judged("a", [1, 2, 3])]
    write_jsonl(tmp_path / "lonely.jsonl", lonely)
    with sqlite_database.write() as c:
        import_judgments(c, check_file(tmp_path / "lonely.jsonl", "rankings"), by=None, name="lonely")
        c.execute(update(tables.prompt).values(split="train"))
    with pytest.raises(DataError, match="no pair was judged by two"):
        create_snapshot(sqlite_database, tmp_path, recipe(aggregate="soft", batches=["lonely"]), by=None)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"aggregate": "majority"},
        {"aggregate": "soft"},
        {"kind": "comparisons"},
        {"kind": "comparisons", "aggregate": "majority", "ties": "drop"},
        {"kind": "comparisons", "aggregate": "soft"},
    ],
)
def test_every_form_reads_back_as_training_data(sqlite_database: Database, tmp_path: Path, settings: Any) -> None:
    bring(sqlite_database, tmp_path, PANEL)
    made = create_snapshot(sqlite_database, tmp_path, recipe(**settings), by=None)
    read = read_rankings if made.kind == "rankings" else read_comparisons
    found = read(made.path(tmp_path))
    assert (len(found.rows), found.sha256, found.snapshot) == (made.rows, made.sha256, "people v1")


def test_the_same_data_has_the_same_hash_on_both_databases(database: Database, tmp_path: Path) -> None:
    """Keys are random, rows come in any order: neither shows. The expected hashes stand here for both databases."""
    bring(database, tmp_path, list(reversed(PANEL)) if database.is_sqlite else PANEL)
    found = {
        (kind, aggregate): create_snapshot(database, tmp_path, recipe(kind=kind, aggregate=aggregate), by=None).sha256[
            :8
        ]
        for kind in ("rankings", "comparisons")
        for aggregate in ("each", "majority", "soft")
    }
    assert found == HASHES


HASHES = {
    ("rankings", "each"): "375be0f8",
    ("rankings", "majority"): "7544569f",
    ("rankings", "soft"): "93385b36",
    ("comparisons", "each"): "26cf33f0",
    ("comparisons", "majority"): "51205394",
    ("comparisons", "soft"): "46afe405",
}


def test_made_again_it_is_the_same_one_until_something_changes(database: Database, tmp_path: Path) -> None:
    bring(database, tmp_path, PANEL)
    first = create_snapshot(database, tmp_path, recipe(), by=None)
    assert create_snapshot(database, tmp_path, recipe(), by=None) == first
    assert [path.name for path in sorted((tmp_path / "snapshots").iterdir())] == [
        "people-v1.jsonl",
        "people-v1.manifest.json",
    ]
    with database.write() as c:
        one = c.scalar(select(tables.submission.c.id).order_by(tables.submission.c.id).limit(1)) or ""
        add_event(c, one, "voided", "test", member_id=None)
    second = create_snapshot(database, tmp_path, recipe(), by=None)
    assert (second.version, second.rows) == (2, 4)
    assert sha256_file(first.path(tmp_path)) == first.sha256
    with database.read() as c:
        assert [found.label for found in list_snapshots(c)] == ["people v2", "people v1"]
        assert snapshot_of(c, "people") == second
        assert snapshot_of(c, "people v1") == first
        with pytest.raises(FeedbackError, match="There is no snapshot people v3"):
            snapshot_of(c, "people v3")


def test_the_manifest_says_what_it_is(sqlite_database: Database, tmp_path: Path) -> None:
    bring(sqlite_database, tmp_path, PANEL, licence="CC-BY-4.0")
    with clock.at(NOON):
        made = create_snapshot(sqlite_database, tmp_path, recipe(without=["c"]), by=None)
    manifest = json.loads(manifest_path(made.path(tmp_path)).read_text())
    assert manifest == made.manifest
    assert (manifest["rows"], manifest["judgments"], manifest["prompts"]) == (4, 4, 2)
    assert manifest["labelers"] == {"person": 2}
    assert manifest["dropped"] == {"labeler is left out by name": 1}
    assert manifest["licences"] == ["CC-BY-4.0"]
    assert [origin["name"] for origin in manifest["origins"]] == ["brought.jsonl"]
    assert [one["version"] for one in manifest["guidelines"]] == [1]
    assert manifest["created_at"] == "2027-01-15T08:00:00+00:00"
    assert manifest["recipe"]["without"] == ["c"]


def test_every_row_knows_its_submissions(database: Database, tmp_path: Path) -> None:
    bring(database, tmp_path, PANEL)
    made = create_snapshot(database, tmp_path, recipe(aggregate="majority"), by=None)
    with database.read() as c:
        source = tables.snapshot_source.c
        rows = c.execute(select(source.row_no).where(source.snapshot_id == made.id)).scalars()
        counts: Counter[int] = Counter(rows)
    by_row = {
        number: row["prompt"][0]["content"] for number, row in enumerate(read_jsonl(made.path(tmp_path)), start=1)
    }
    assert {by_row[number]: count for number, count in counts.items()} == {"Say.": 3, "Tie.": 2}


class Filled:
    """A project with one work batch: five tasks, and a gold question, with a submission each by Ada."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.write() as c:
            self.ada = add_member(c, "Ada")
            self.bot = add_member(c, "Bot", kind="ai")
            self.guideline = add_guideline(c)
            self.batch = add_batch(c, self.guideline)
            self.origin = add_origin(c)
            self.submissions = {
                name: self.judge(c, name, split)
                for name, split in (("Plain", "train"), ("Held", "test"), ("Val", "validation"))
            }
            self.judge(c, "PLAIN??", "train", who=self.bot)
            self.judge(c, "held!", "train")  # nearly the test prompt
            self.gold = self.judge(c, "Gold", "train", gold=True)

    def judge(self, c: Any, text: str, split: str, *, who: str | None = None, gold: bool = False) -> str:
        member = who or self.ada
        prompt = add_prompt(c, self.origin, text, split=split)
        ids = [add_response(c, prompt, self.origin, f"{text} {place}") for place in "ab"]
        task = add_task(c, self.batch, prompt, ids, overlap=1, slots_taken=1, submitted=1)
        if gold:
            expected = {
                "constraints": [{"better": ids[0], "worse": ids[1], "weight": 1}],
                "required": [],
                "forbidden": [],
            }
            c.execute(insert(tables.gold_key).values(task_id=task, expected=expected, created_at=clock.now()))
        assignment = add_assignment(c, task, member, self.guideline, ids, state="submitted")
        new = add_submission(c, assignment, self.guideline, {ids[0]: 1, ids[1]: 2})
        if gold:
            c.execute(
                insert(tables.gold_result).values(submission_id=new, score=0.5, passed=False, created_at=clock.now())
            )
        return new

    def dropped(self, **settings: Any) -> tuple[int, dict[str, int]]:
        with self.database.read() as c:
            found = preview(c, recipe(**settings))
        return found.judgments, {cause: count for cause, count in found.dropped.items() if count}


def test_filters_leave_out_and_count(database: Database) -> None:
    filled = Filled(database)
    always = {"gold question": 1, "labeler is ai": 1, "prompt is nearly a test prompt": 1, "test prompt": 1}
    assert filled.dropped() == (2, always)
    assert filled.dropped(splits=["train"]) == (1, always | {"validation prompt": 1})
    assert filled.dropped(splits=["test"]) == (
        1,
        {"gold question": 1, "labeler is ai": 1, "train prompt": 2, "validation prompt": 1},
    )
    assert filled.dropped(labelers=["person", "ai"])[0] == 3
    assert filled.dropped(states=["paused"])[0] == 0
    assert filled.dropped(guidelines=[2])[1]["other guidelines"] == 4
    assert filled.dropped(min_judgments=2)[1]["task has fewer than 2 judgments"] == 2
    assert filled.dropped(min_gold=0.5)[1]["labeler answered fewer than 5 gold questions"] == 4
    assert (
        filled.dropped(min_gold=0.5, min_gold_answers=1)[1]["labeler passed less than 0.5 of the gold questions"] == 4
    )
    assert filled.dropped(min_gold=0.0, min_gold_answers=1)[0] == 2
    with pytest.raises(FeedbackError, match="no batch named Second"):
        filled.dropped(batches=["First", "Second"])


def test_nothing_taken_is_an_error_that_says_why(sqlite_database: Database, tmp_path: Path) -> None:
    Filled(sqlite_database)
    with pytest.raises(DataError, match=r"takes no judgment\. Left out: .*labeler is qualified: 5"):
        create_snapshot(sqlite_database, tmp_path, recipe(states=["removed"], labelers=["person", "ai"]), by=None)
    assert not (tmp_path / "snapshots").exists()


def test_test_prompts_never_mix_with_training() -> None:
    with pytest.raises(ConfigError, match="test prompts stay out of data to train on"):
        load_config(Recipe, None, ["name=x", "splits=[train, test]"])


def test_demonstrations_and_erased_words(database: Database, tmp_path: Path) -> None:
    with database.write() as c:
        ada, guideline, origin = add_member(c), add_guideline(c), add_origin(c)
        batch = add_batch(c, guideline, kind="demonstration")
        for number in range(2):
            prompt = add_prompt(c, origin, f"Write {number}.")
            task = add_task(c, batch, prompt, [], overlap=1, slots_taken=1, submitted=1)
            assignment = add_assignment(c, task, ada, guideline, [], state="submitted")
            add_submission(c, assignment, guideline, {}, words={"demonstration": f"Words {number}.", "reason": "Why."})
    made = create_snapshot(database, tmp_path, recipe(kind="demonstrations"), by=None)
    assert {row.response for row in read_demonstrations(made.path(tmp_path)).rows} == {"Words 0.", "Words 1."}
    with database.write() as c:
        text = tables.submission_text
        c.execute(update(text).where(text.c.body == "Words 1.").values(body=None, erased_at=clock.now()))
    again = create_snapshot(database, tmp_path, recipe(kind="demonstrations"), by=None)
    assert (again.rows, again.manifest["dropped"]) == (1, {"the words were erased": 1})


def test_a_changed_or_missing_file_is_found_and_refused(sqlite_database: Database, tmp_path: Path) -> None:
    bring(sqlite_database, tmp_path, PANEL)
    made = create_snapshot(sqlite_database, tmp_path, recipe(), by=None)
    path = made.path(tmp_path)
    assert find_fault(made, tmp_path) is None
    path.write_bytes(path.read_bytes().replace(b'"ranks": [1', b'"ranks": [2', 1))
    assert find_fault(made, tmp_path) == f"{path} was changed"
    with pytest.raises(DataError, match="was changed after snapshot people v1 was made"):
        read_any(path)
    path.unlink()
    assert find_fault(made, tmp_path) == f"{path} is missing"


def test_nothing_in_the_database_without_the_file(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(sqlite_database, tmp_path, PANEL)
    monkeypatch.setattr("plaudit.feedback.data.snapshots.sha256_file", lambda _path: "0" * 64)
    with pytest.raises(DataError, match="does not hold what was written to it"):
        create_snapshot(sqlite_database, tmp_path, recipe(), by=None)
    assert list((tmp_path / "snapshots").iterdir()) == []
    with sqlite_database.read() as c:
        assert list_snapshots(c) == []
