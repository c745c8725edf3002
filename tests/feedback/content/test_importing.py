"""Texts and judgments from files: what arrives, what is refused and with which line, and what that may cost."""

import gzip
import json
import resource
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from plaudit.core.errors import DataError
from plaudit.core.files import write_jsonl
from plaudit.datasets.read import read_rankings
from plaudit.feedback.content.import_files import check_file
from plaudit.feedback.content.importing import import_prompts, import_responses, rehearse
from plaudit.feedback.data.judgments import load_judgments
from plaudit.feedback.data.recorded import import_judgments
from plaudit.feedback.quality.records import Judgment, from_rankings
from plaudit.feedback.store import tables
from plaudit.feedback.store.database import Database


def count(database: Database, table: Any) -> int:
    with database.read() as c:
        return c.scalar(select(func.count()).select_from(table)) or 0


def write(tmp_path: Path, rows: list[Any], name: str = "file.jsonl") -> Path:
    file = tmp_path / name
    if all(isinstance(row, dict) for row in rows):
        write_jsonl(file, rows)
    else:
        file.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return file


def test_prompts_arrive_once_and_a_rehearsal_leaves_nothing(database: Database, tmp_path: Path) -> None:
    rows = [{"prompt": "Say a."}, {"prompt": "Say b.", "split": "test", "tags": ["x"]}, {"prompt": "Say a."}]
    file = write(tmp_path, rows)
    tried = rehearse(database, lambda c: import_prompts(c, check_file(file, "prompts"), by=None))
    assert (tried.rows, tried.new_prompts, count(database, tables.prompt)) == (3, 2, 0)
    assert count(database, tables.audit_event) == 0
    with database.write() as c:
        done = import_prompts(c, check_file(file, "prompts"), by=None, licence="CC0", tags=("t",))
    assert (done.rows, done.new_prompts, done.known_prompts) == (3, 2, 0)
    with database.write() as c:
        again = import_prompts(c, check_file(file, "prompts"), by=None)
    assert (again.new_prompts, again.known_prompts) == (0, 2)
    with database.read() as c:
        found = {row.messages[0]["content"]: row for row in c.execute(select(tables.prompt))}
        info = c.scalar(select(tables.origin.c.info).where(tables.origin.c.id == done.origin_id)) or {}
    assert (found["Say b."].split, found["Say b."].tags) == ("test", ["t", "x"])
    assert (info["licence"], info["file"]) == ("CC0", "file.jsonl")


def test_faults_are_told_with_their_lines_and_nothing_is_kept(sqlite_database: Database, tmp_path: Path) -> None:
    deep: Any = "x"
    for _ in range(30):
        deep = [deep]
    rows = [
        {"prompt": "Good."},
        "{not json",
        {"prompt": ""},
        {"text": "No prompt."},
        {"prompt": "Nul \0 inside."},
        {"prompt": "x" * 200_001},
        {"prompt": "Deep.", "meta": deep},
        {"prompt": "Split.", "split": "training"},
        '{"prompt": "Half \\ud800."}',
        '{"prompt": "Not a number.", "x": NaN}',
    ]
    checked = check_file(write(tmp_path, rows), "prompts")
    with pytest.raises(DataError, match=r"9 of 1. rows of file.jsonl cannot be imported"), sqlite_database.write() as c:
        import_prompts(c, checked, by=None)
    assert [problem.line for problem in checked.problems] == [2, 3, 4, 5, 6, 7, 9, 10, 8]
    assert count(sqlite_database, tables.prompt) == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "bomb.jsonl.gz",
            gzip.compress(b'{"prompt": "' + b"a" * 50_000_000 + b'"}\n'),
            "compressed more than 100 times",
        ),
        ("cut.jsonl.gz", gzip.compress(b'{"prompt": "a"}\n')[:-6], "damaged gzip file"),
        ("file.exe", b"MZ", "unknown kind"),
        ("empty.jsonl", b"", "holds no prompts"),
        ("fake.parquet", b"PAR1 no", "damaged Parquet file"),
    ],
    ids=["bomb", "cut", "executable", "empty", "fake parquet"],
)
def test_hostile_files_are_refused_before_they_cost_anything(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=message):
        check_file(tmp_path / name, "prompts")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"


def test_a_missing_file_and_a_folder_are_no_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(DataError, match="is no file"):
            check_file(path, "prompts")


def test_responses_know_which_model_they_are_of(database: Database, tmp_path: Path) -> None:
    rows = [
        {"prompt": "Say a.", "responses": [{"text": "a", "model": "one"}, {"text": "a", "model": "two"}, "b"]},
        {"prompt": [{"role": "user", "content": "Say b."}], "responses": ["b", "b"]},
    ]
    with database.write() as c:
        done = import_responses(c, check_file(write(tmp_path, rows), "responses"), by=None, model="rest")
    assert (done.new_prompts, done.new_responses) == (2, 4)
    with database.read() as c:
        names = c.execute(
            select(tables.response.c.body, tables.origin.c.name).join(
                tables.origin, tables.origin.c.id == tables.response.c.origin_id
            )
        )
        assert sorted(map(tuple, names)) == [("a", "one"), ("a", "two"), ("b", "rest"), ("b", "rest")]


RANKING = {
    "prompt": "Say a.",
    "responses": [{"text": "a", "system": "s1", "flag": "ok"}, {"text": "b", "system": "s2", "flag": "Missing"}, "c"],
    "ranks": [1, 4, 4],
    "labeler": "w001",
    "criterion": "quality",
    "started": "11/28/2017 14:42:14",
    "submitted": "11/28/2017 14:42:44",
    "trust": 0.9,
    "order": [2, 0, 1],
    "confidence": 4,
    "reason": "Because.",
}


def test_a_recorded_judgment_keeps_all_that_the_file_says(database: Database, tmp_path: Path) -> None:
    rows = [RANKING, RANKING | {"labeler": "w002", "ranks": [2, 1, 1]}, RANKING | {"criterion": "style"}, RANKING]
    with database.write() as c:
        done = import_judgments(c, check_file(write(tmp_path, rows), "rankings"), by=None, name="old")
    assert (done.judgments, done.labelers, done.tasks, done.batches) == (4, 2, 3, ("old, quality", "old, style"))
    with database.read() as c:
        t, a, s, m = tables.task, tables.assignment, tables.submission, tables.member
        row = c.execute(
            select(a.c.leased_at, a.c.ended_at, a.c.shown, s, t.c.submitted.label("judged"), t.c.agreement, m)
            .join(a, a.c.task_id == t.c.id)
            .join(s, s.c.assignment_id == a.c.id)
            .join(m, m.c.id == a.c.member_id)
            .where(t.c.submitted == 2, m.c.pseudonym == "w001")
        ).one()
        bodies = {row.id: row.body for row in c.execute(select(tables.response))}
        entries = c.execute(select(tables.ranking_entry).where(tables.ranking_entry.c.submission_id == row.id))
        assert {bodies[entry.response_id]: entry.tier for entry in entries} == {"a": 1, "b": 2, "c": 2}
        assert [bodies[name] for name in row.shown] == ["b", "c", "a"]
        assert (row.leased_at, row.ended_at) == (1511880134000, 1511880164000)
        assert (row.active_ms, row.confidence, row.kind, row.email) == (30_000, 4, "person", None)
        assert row.agreement == pytest.approx(1 / 3)
        flagged = c.execute(select(tables.flag_entry).where(tables.flag_entry.c.submission_id == row.id)).one()
        assert (bodies[flagged.response_id], flagged.flag) == ("b", "missing")
        assert c.scalar(select(tables.submission_text.c.body).limit(1)) == "Because."
        info = c.scalar(select(tables.origin.c.info).where(tables.origin.c.kind == "import")) or {}
        assert info["trust"] == {"w001": 0.9, "w002": 0.9}
        version = c.execute(select(tables.guideline)).one()
        assert (version.status, [flag["key"] for flag in version.flags]) == ("retired", ["missing"])


def test_judging_again_is_a_task_of_its_own(sqlite_database: Database, tmp_path: Path) -> None:
    rows = [RANKING, RANKING | {"ranks": [3, 2, 1]}, RANKING | {"labeler": "w002"}]
    with sqlite_database.write() as c:
        done = import_judgments(c, check_file(write(tmp_path, rows), "rankings"), by=None)
    assert (done.judgments, done.tasks) == (3, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labeler": None}, "1 rows of file.jsonl do not say who judged. Give labeler="),
        ({"confidence": 7}, "`confidence` is 7; write a whole number from 1 to 5"),
        ({"order": [0, 0, 1]}, r"`order` is \[0, 0, 1\]"),
        ({"submitted": "yesterday"}, "`submitted` is 'yesterday'; write a time"),
        ({"responses": ["a", {"text": "b", "flag": "%"}, "c"]}, "the flag '%' is no name"),
        ({"responses": [str(n) for n in range(10)], "ranks": list(range(1, 11))}, "10 responses are ranked at once"),
        ({"ranks": [1, 2]}, "2 `ranks` for 3 `responses`"),
    ],
)
def test_faulty_judgments_are_refused(
    sqlite_database: Database, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    file = write(tmp_path, [RANKING | change])
    with pytest.raises(DataError, match=message), sqlite_database.write() as c:
        import_judgments(c, check_file(file, "rankings"), by=None)
    assert count(sqlite_database, tables.member) == 0


def test_comparisons_are_rankings_of_two_and_aggregates_are_refused(sqlite_database: Database, tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {n}.", "chosen": "yes", "rejected": "no", "label": n / 2} for n in range(3)]
    with sqlite_database.write() as c:
        done = import_judgments(c, check_file(write(tmp_path, rows), "rankings"), by=None, labeler="somebody")
    assert (done.judgments, done.new_labelers) == (3, 1)
    tiers = select(tables.response.c.body, tables.ranking_entry.c.tier).join(
        tables.response, tables.response.c.id == tables.ranking_entry.c.response_id
    )
    with sqlite_database.read() as c:
        found = sorted(map(tuple, c.execute(tiers)))
    assert found == [("no", 1), ("no", 1), ("no", 2), ("yes", 1), ("yes", 1), ("yes", 2)]
    soft = write(tmp_path, [rows[0] | {"label": 0.7}], "soft.jsonl")
    with pytest.raises(DataError, match=r"`label` is 0.7: several judgments in one"), sqlite_database.write() as c:
        import_judgments(c, check_file(soft, "rankings"), by=None, labeler="somebody")


def test_nothing_is_put_down_to_a_member_and_no_file_counts_twice(sqlite_database: Database, tmp_path: Path) -> None:
    file = write(tmp_path, [RANKING | {"labeler": "mail@example.org"}])
    with sqlite_database.write() as c:
        import_judgments(c, check_file(file, "rankings"), by=None)
    with pytest.raises(DataError, match="was imported before"), sqlite_database.write() as c:
        import_judgments(c, check_file(file, "rankings"), by=None)
    with sqlite_database.read() as c:
        name = c.scalar(select(tables.member.c.pseudonym)) or ""
    assert name.startswith("imported-"), "an address is no pseudonym"
    with sqlite_database.write() as c:
        c.execute(tables.member.update().values(email="a@example.org"))
    other = write(tmp_path, [RANKING | {"labeler": name}], "other.jsonl")
    with pytest.raises(DataError, match="who is a member of this project"), sqlite_database.write() as c:
        import_judgments(c, check_file(other, "rankings"), by=None)


@pytest.mark.slow
def test_the_recorded_judgments_of_e2e_are_those_of_the_file(sqlite_database: Database, data_folder: Path) -> None:
    file = data_folder / "e2e" / "rankings.jsonl.gz"
    with sqlite_database.write() as c:
        done = import_judgments(c, check_file(file, "rankings"), by=None)
    assert (done.judgments, done.labelers, done.left_out) == (5496, 158, {})
    with sqlite_database.read() as c:
        stored = load_judgments(c)
        flags = c.scalar(select(func.count()).where(tables.flag_entry.c.flag.in_(("missing", "added"))))
    assert flags == count(sqlite_database, tables.flag_entry) > 0

    def said(one: Judgment) -> tuple[object, ...]:
        order = sorted(set(one.ranks))  # ties of equal texts have no order of their own
        places = sorted(zip(one.responses, map(order.index, one.ranks), strict=True))
        return one.item, one.labeler, one.criterion, tuple(places)

    assert Counter(map(said, stored)) == Counter(map(said, from_rankings(read_rankings(file).rows)))
