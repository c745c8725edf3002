"""Reading: every format gives the same records, every fault names its place."""

import csv
import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from plaudit.core.errors import DataError
from plaudit.core.records import Message, user_prompt
from plaudit.datasets.audit import verdicts
from plaudit.datasets.read import read_any, read_comparisons, read_demonstrations, read_prompts, read_rankings

FRUIT = {"prompt": "Name a fruit.", "response": "Pear."}
RANKED = {"prompt": "Name a fruit.", "responses": ["Pear.", "Plum.", "Carrot."], "ranks": [1, 1, 2], "labeler": "anna"}
PAIR = {"prompt": "Name a fruit.", "chosen": "Pear.", "rejected": "Carrot."}


def write(path: Path, *rows: Any) -> Path:
    """JSON lines; strings are written as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def fault(read: Any, path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


# The same rows in every kind of file


def test_every_kind_of_file_gives_the_same_rankings(tmp_path: Path):
    import pyarrow
    import pyarrow.parquet

    import datasets

    other = {**RANKED, "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": 'Go, "on"'}]}
    text = [RANKED, {**RANKED, "prompt": "Another, with a comma\nand a newline"}]
    rows = [RANKED, other]
    expected = [
        (r.prompt, r.responses, r.ranks, r.labeler) for r in read_rankings(write(tmp_path / "a.jsonl", *rows)).rows
    ]
    assert expected[0] == (user_prompt("Name a fruit."), ("Pear.", "Plum.", "Carrot."), (1, 1, 2), "anna")
    assert expected[1][0] == (Message("system", "Be brief."), Message("user", 'Go, "on"'))

    (tmp_path / "b.json").write_text(json.dumps(rows, indent=1))
    write(tmp_path / "c.jsonl.gz", *rows)
    write(tmp_path / "d.json", *rows)
    with open(tmp_path / "e.csv", "w", newline="", encoding="utf-8-sig") as out:
        table = csv.writer(out)
        table.writerow(RANKED)
        for row in rows:
            table.writerow([value if isinstance(value, str) else json.dumps(value) for value in row.values()])
    for name in ("b.json", "c.jsonl.gz", "d.json", "e.csv"):
        found = [(r.prompt, r.responses, r.ranks, r.labeler) for r in read_rankings(tmp_path / name).rows]
        assert found == expected, name

    # A column has one type in Parquet and Arrow, so these hold the rows with text prompts.
    wanted = [(r.prompt, r.responses, r.ranks) for r in read_rankings(write(tmp_path / "t.jsonl", *text)).rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(text), tmp_path / "f.parquet")
    datasets.Dataset.from_list(text).save_to_disk(str(tmp_path / "folder"))
    for name in ("f.parquet", "folder"):
        assert [(r.prompt, r.responses, r.ranks) for r in read_rankings(tmp_path / name).rows] == wanted, name


def test_a_folder_of_splits_asks_which(tmp_path: Path):
    import datasets

    rows = datasets.Dataset.from_list([FRUIT])
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(str(tmp_path / "all"))
    assert "test, train" in fault(read_demonstrations, tmp_path / "all")
    assert len(read_demonstrations(tmp_path / "all" / "test").rows) == 1
    (tmp_path / "plain").mkdir()
    assert "no saved data set" in fault(read_demonstrations, tmp_path / "plain")


def test_a_hub_name_is_loaded_with_its_split(monkeypatch: pytest.MonkeyPatch):
    import datasets

    asked: list[Any] = []

    def load(name: str, split: str) -> Any:
        asked.append((name, split))
        if name == "gone":
            raise ConnectionError("no network")
        return datasets.Dataset.from_list([FRUIT])

    monkeypatch.setattr(datasets, "load_dataset", load)
    first = read_demonstrations("hub:people/fruit")
    assert first.rows[0].response == "Pear."
    assert first.sha256 == read_demonstrations("hub:people/fruit:test").sha256
    assert {("people/fruit", "train"), ("people/fruit", "test")} == set(asked)
    with pytest.raises(DataError, match="Check the name, the split and the connection"):
        read_demonstrations("hub:gone")


def test_places_in_the_file_are_kept(file: Path):
    rows = read_demonstrations(write(file, FRUIT, "", FRUIT)).rows
    assert [str(row.source) for row in rows] == [f"{file}:1", f"{file}:3"]


def test_limit_reads_no_further(file: Path):
    assert len(read_demonstrations(write(file, FRUIT, FRUIT, "not JSON"), limit=2).rows) == 2


def test_the_hash_is_of_the_file_and_changes_with_it(file: Path):
    before = read_demonstrations(write(file, FRUIT)).sha256
    assert read_demonstrations(file).sha256 == before
    assert read_demonstrations(write(file, FRUIT, FRUIT)).sha256 != before


# Conventions


def chat(*turns: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]


def test_trl_comparisons_in_all_their_shapes(file: Path):
    write(
        file,
        PAIR,
        {"prompt": chat("Name a fruit."), "chosen": chat("", "Pear.")[1:], "rejected": chat("", "Carrot.")[1:]},
        {"chosen": chat("Name a fruit.", "Pear."), "rejected": chat("Name a fruit.", "Carrot.")},
        {
            "prompt": "Name a fruit.",
            "chosen": chat("Name a fruit.", "Pear."),
            "rejected": chat("Name a fruit.", "Carrot."),
        },
    )
    for row in read_comparisons(file).rows:
        assert (row.prompt, row.chosen, row.rejected) == (user_prompt("Name a fruit."), "Pear.", "Carrot.")


def test_a_pair_must_share_its_conversation(file: Path):
    write(file, {"chosen": chat("Name a fruit.", "Pear."), "rejected": chat("Name a tree.", "Oak.")})
    assert "differ before the last answer" in fault(read_comparisons, file)
    write(file, {"prompt": "Name a fruit.", "chosen": chat("Name a tree.", "Pear."), "rejected": "Oak."})
    assert "another conversation than `prompt`" in fault(read_comparisons, file)


def test_transcripts(file: Path):
    start = "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Name a fruit.\n\nAssistant:"
    row = read_comparisons(write(file, {"chosen": start + " Pear.", "rejected": start + " Carrot."})).rows[0]
    assert [m.role for m in row.prompt] == ["user", "assistant", "user"]
    assert (row.prompt[1].content, row.chosen, row.rejected) == ("Hello.", "Pear.", "Carrot.")
    assert read_prompts(write(file, {"prompt": start})).rows[0].prompt == row.prompt


def test_few_flawed_transcripts_are_dropped_and_counted_many_are_an_error(file: Path):
    good = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    empty = {"chosen": "\n\nHuman: a\n\nAssistant: ", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    apart = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: z\n\nAssistant: c"}
    rows = read_comparisons(write(file, *[good] * 38, empty, apart))
    assert len(rows.rows) == 38
    assert rows.counts["dropped: transcript with an empty answer"] == 1
    assert rows.counts["dropped: transcripts differ before the answer"] == 1
    message = fault(read_comparisons, write(file, *[good] * 37, empty, empty, apart))
    assert "3 of 40 rows" in message
    assert f"{file}:38" in message


def test_messages_end_with_the_answer(file: Path):
    row = read_demonstrations(write(file, {"messages": chat("a", "b", "c", "d")})).rows[0]
    assert ([m.content for m in row.prompt], row.response) == (["a", "b", "c"], "d")


def test_scores_become_ranks_with_ties_and_flags_stay_out(file: Path):
    answers = [("a", 60), ("b", 100.0), ("c", 60.0), ("d", -5)]
    row = {"prompt": "p", "responses": [{"text": t, "score": s, "flag": "ok"} for t, s in answers]}
    ranking = read_rankings(write(file, row)).rows[0]
    assert (ranking.responses, ranking.ranks) == (("a", "b", "c", "d"), (2, 1, 2, 3))


def test_criterion_chooses_rows_and_a_mix_is_noted(file: Path):
    write(file, {**RANKED, "criterion": "quality"}, {**RANKED, "criterion": "style"}, {**RANKED, "criterion": "style"})
    assert len(read_rankings(file, criterion="style").rows) == 2
    assert any("style (2), quality (1)" in note for note in read_rankings(file).notes)
    with pytest.raises(DataError, match=r"no row with criterion=taste. It has: style \(2\), quality \(1\)"):
        read_rankings(file, criterion="taste")


def test_any_kind_is_told_by_its_fields(file: Path):
    kinds = [read_any(write(file, row)).kind for row in (FRUIT, RANKED, PAIR, {"prompt": "p"})]
    assert kinds == ["demonstration", "ranking", "comparison", "prompt"]


def test_prompts_come_once_each_from_any_kind(file: Path):
    rows = read_prompts(write(file, FRUIT, RANKED, PAIR, {"prompt": "Other."}, {"messages": chat("Third.", "x")}))
    assert [row.prompt for row in rows.rows] == [user_prompt(t) for t in ("Name a fruit.", "Other.", "Third.")]
    assert rows.counts["duplicates"] == 2


def test_another_kind_than_wanted_is_one_clear_error(file: Path):
    assert "is a comparison" in fault(read_rankings, write(file, PAIR))
    assert "is a ranking" in fault(read_demonstrations, write(file, RANKED))


# Faults


FAULTS: list[tuple[str, Any, Any, list[str]]] = [
    ("not JSON", read_demonstrations, '{"prompt": "a"', ["not JSON", "one JSON object per line"]),
    ("no object", read_demonstrations, "[1, 2]", ["write an object with named fields"]),
    ("missing", read_demonstrations, {"prompt": "a", "respones": "b"}, ["`prompt`, `respones`", "rename `respones`"]),
    ("missing prompt", read_rankings, {"responses": ["a", "b"], "ranks": [1, 2]}, ["no field `prompt`"]),
    ("null", read_demonstrations, {"prompt": "a", "response": None}, ["no field `response`"]),
    ("empty answer", read_demonstrations, {"prompt": "a", "response": " \n"}, ["`response` is empty"]),
    ("empty prompt", read_demonstrations, {"prompt": "", "response": "b"}, ["`prompt` is empty"]),
    ("number", read_demonstrations, {"prompt": "a", "response": 12}, ["`response` is 12; write text"]),
    ("surrogate", read_demonstrations, '{"prompt": "a", "response": "\\ud83d"}', ["surrogate"]),
    ("marked", read_demonstrations, {"prompt": "a", "completion": "b", "label": False}, ["marked good or bad"]),
    ("rank count", read_rankings, {**RANKED, "ranks": [1, 2]}, ["2 `ranks` for 3 `responses`"]),
    ("rank zero", read_rankings, {**RANKED, "ranks": [0, 1, 2]}, ["rank 1 is 0", "whole numbers from 1"]),
    ("rank float", read_rankings, {**RANKED, "ranks": [1, 1.5, 2]}, ["rank 2 is 1.5"]),
    ("rank true", read_rankings, {**RANKED, "ranks": [True, 2, 2]}, ["rank 1 is True"]),
    ("unranked", read_rankings, {"prompt": "a", "responses": ["b", "c"]}, ["no field `ranks`", "`responses`"]),
    ("one response", read_rankings, {**RANKED, "responses": ["a"], "ranks": [1]}, ["a ranking needs two or more"]),
    ("empty response", read_rankings, {**RANKED, "responses": ["a", "", "c"]}, ["`responses[2]` is empty"]),
    ("unscored", read_rankings, {"prompt": "a", "responses": [{"text": "b", "score": 1}, "c"]}, ["response 2 has no"]),
    ("score NaN", read_rankings,
     '{"prompt": "a", "responses": [{"text": "b", "score": NaN}, {"text": "c", "score": 1}]}', ["score` is nan"]),
    ("no user", read_prompts, {"prompt": [{"role": "system", "content": "a"}]}, ["has no user message"]),
    ("assistant last", read_prompts, {"prompt": chat("a", "b")}, ["is from the assistant", "end the prompt with"]),
    ("role", read_prompts, {"prompt": [{"role": "human", "content": "a"}]}, ["unknown role 'human'", "write user"]),
    ("late system", read_prompts, {"prompt": [*chat("a"), {"role": "system", "content": "b"}]}, ["in the middle"]),
    ("no content", read_prompts, {"prompt": [{"role": "user"}]}, ["`prompt[1]`", "`role` and `content`"]),
    ("weight NaN", read_comparisons, json.dumps({**PAIR, "weight": float("nan")}), ["`weight` is nan", "finite"]),
    ("weight < 0", read_comparisons, {**PAIR, "weight": -1}, ["`weight` is -1", "at least 0"]),
    ("weight text", read_comparisons, {**PAIR, "weight": "heavy"}, ["`weight` is 'heavy'; write a number"]),
    ("label", read_comparisons, {**PAIR, "label": 1.5}, ["`label` is 1.5", "from 0 to 1"]),
    ("margin", read_comparisons, json.dumps({**PAIR, "margin": float("inf")}), ["`margin` is inf"]),
    ("transcript end", read_comparisons,
     {"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: a\n\nAssistant: b"}, ["ends with the person's turn"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("read", "row", "told"), [fault_[1:] for fault_ in FAULTS], ids=[fault_[0] for fault_ in FAULTS]
)
def test_a_bad_row_is_named_with_its_place_and_remedy(file: Path, read: Any, row: Any, told: list[str]):
    good = {read_demonstrations: FRUIT, read_rankings: RANKED, read_comparisons: PAIR, read_prompts: {"prompt": "a"}}
    message = fault(read, write(file, good[read], row))
    assert "1 of 2 rows" in message
    assert f"{file}:2: " in message
    for part in told:
        assert part in message


def test_five_faults_are_shown_and_all_are_counted(file: Path):
    message = fault(read_demonstrations, write(file, FRUIT, *[{**FRUIT, "response": ""}] * 9))
    assert message.count("`response` is empty") == 5
    assert "9 of 10 rows" in message
    assert "and 4 more" in message


def test_bytes_that_are_not_utf8_are_found_to_the_byte(tmp_path: Path):
    first = json.dumps(FRUIT).encode() + b"\n"
    bad = b'{"prompt": "caf\xe9", "response": "b"}\n'
    (tmp_path / "a.jsonl").write_bytes(first + bad)
    message = fault(read_demonstrations, tmp_path / "a.jsonl")
    assert "a.jsonl:2: byte 0xe9" in message
    assert f"byte offset {len(first) + 15}" in message
    (tmp_path / "a.csv").write_bytes(b"prompt,response\ncaf\xe9,b\n")
    assert "a.csv:2: byte 0xe9 at byte offset 19" in fault(read_demonstrations, tmp_path / "a.csv")
    (tmp_path / "a.json").write_bytes(b"[\n" + bad + b"]")
    assert "a.json:2: byte 0xe9" in fault(read_demonstrations, tmp_path / "a.json")


def test_a_huge_line_is_refused_without_being_held_in_memory(file: Path):
    with gzip.open(file.with_suffix(".jsonl.gz"), "wb") as out:
        out.write(json.dumps(FRUIT).encode() + b'\n{"prompt": "a", "response": "')
        for _ in range(100):
            out.write(b"x" * 1_000_000)
        out.write(b'"}\n' + json.dumps(FRUIT).encode())
    tracemalloc.start()
    message = fault(read_demonstrations, file.with_suffix(".jsonl.gz"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ":2: the line has 100,000,032 bytes, more than the 4,000,000 allowed" in message
    assert "1 of 3 rows" in message
    assert peak < 20_000_000


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.jsonl.gz"])
def test_an_empty_file(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(gzip.compress(b"\n") if name.endswith("gz") else b"\n")
    assert "is empty" in fault(read_demonstrations, tmp_path / name)


def test_files_that_cannot_be_opened(tmp_path: Path):
    assert "does not exist" in fault(read_demonstrations, tmp_path / "none.jsonl")
    (tmp_path / "a.txt").write_text("x")
    assert "unknown kind of file" in fault(read_demonstrations, tmp_path / "a.txt")
    whole = gzip.compress(json.dumps(FRUIT).encode() * 1000)
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    assert "damaged gzip" in fault(read_demonstrations, tmp_path / "a.jsonl.gz")
    (tmp_path / "b.jsonl.gz").write_bytes(b"plain")
    assert "damaged gzip" in fault(read_demonstrations, tmp_path / "b.jsonl.gz")
    (tmp_path / "a.parquet").write_bytes(b"plain text")
    assert "damaged Parquet" in fault(read_demonstrations, tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text('[{"a": 1},\n {]')
    assert "a.json:2: not JSON" in fault(read_demonstrations, tmp_path / "a.json")


def test_csv_faults(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("prompt,response\na,b\na,b,c\n")
    assert "a.csv:3: 3 cells under 2 column names" in fault(read_demonstrations, path)
    path.write_text("prompt,chosen,rejected,weight\na,b,c,\na,b,c,2.5\na,b,c,x\n")
    assert "a.csv:4: `weight` is 'x'" in fault(read_comparisons, path)
    path.write_text("prompt,chosen,rejected,weight\na,b,c,\na,b,c,2.5\n")
    assert [row.weight for row in read_comparisons(path).rows] == [1.0, 2.5]


# Counts


def test_all_ties_teach_nothing_but_single_ones_are_kept(file: Path):
    tie = {**RANKED, "ranks": [1, 1, 1]}
    assert "All 2 rankings" in fault(read_rankings, write(file, tie, tie))
    rows = read_rankings(write(file, tie, RANKED))
    assert (len(rows.rows), rows.counts["all_tied"]) == (2, 1)
    half = {**PAIR, "label": 0.5}
    assert "there is nothing to learn" in fault(read_comparisons, write(file, half))


def test_duplicates_and_contradictions_are_counted(file: Path):
    turned = {**PAIR, "chosen": PAIR["rejected"], "rejected": PAIR["chosen"]}
    counts = read_comparisons(write(file, PAIR, PAIR, turned)).counts
    assert (counts["duplicates"], counts["opposite_duplicates"]) == (1, 1)
    assert (counts["judged_pairs"], counts["opposite_pairs"], counts["self_contradictions"]) == (1, 1, 0)

    ben = {**RANKED, "ranks": [2, 1, 1], "labeler": "ben"}  # Pear is worse than Carrot; against anna
    anna = {**RANKED, "responses": ["Carrot.", "Plum."], "ranks": [1, 2]}  # against herself
    counts = read_rankings(write(file, RANKED, ben, anna)).counts
    # Judged strictly: Pear/Carrot (both ways, two people), Plum/Carrot (both ways, anna), Pear/Plum (ben only).
    assert (counts["judged_pairs"], counts["opposite_pairs"], counts["self_contradictions"]) == (3, 2, 1)
    assert counts["labelers"] == 2


def test_verdicts_name_the_better_text(file: Path):
    told = [(v.better, v.worse) for v in verdicts(read_rankings(write(file, RANKED)).rows[0])]
    assert told == [("Pear.", "Carrot."), ("Plum.", "Carrot.")]
    unsure = read_comparisons(write(file, {**PAIR, "label": 0.2})).rows[0]
    assert [(v.better, v.worse) for v in verdicts(unsure)] == [("Carrot.", "Pear.")]


def test_fields_that_are_not_used_are_told(file: Path):
    assert "fields not used: wieght" in read_comparisons(write(file, {**PAIR, "wieght": 2})).notes
