"""The reader on people's real judgments. Skipped, with the reason, where the data folder is missing."""

import time
from pathlib import Path

from plaudit.datasets.read import read_comparisons, read_demonstrations, read_prompts, read_rankings
from plaudit.datasets.splits import find_leaks, split_by_prompt


def test_demonstrations(data_folder: Path):
    rows = read_demonstrations(data_folder / "e2e" / "demonstrations.jsonl.gz")
    assert (rows.counts["rows"], rows.counts["prompts"]) == (4299, 1484)


def test_prompts(data_folder: Path):
    rows = read_prompts(data_folder / "e2e" / "prompts.jsonl")
    assert rows.counts["rows"] == rows.counts["prompts"] == 1964


def test_rankings_by_scores(data_folder: Path):
    path = data_folder / "e2e" / "rankings.jsonl.gz"
    rows = read_rankings(path)
    assert (rows.counts["rows"], rows.counts["prompts"]) == (5496, 480)
    assert {len(row.responses) for row in rows.rows} == {5}
    parts = [len(read_rankings(path, criterion=name).rows) for name in ("quality", "naturalness")]
    assert parts == [2268, 3228]
    # "About half of all pairs are ties": the figure known for this data.
    pairs = [a == b for row in rows.rows for i, a in enumerate(row.ranks) for b in row.ranks[i + 1 :]]
    assert 0.45 < sum(pairs) / len(pairs) < 0.6
    split = split_by_prompt(rows.rows, held_out=0.2, seed=0)
    assert find_leaks(split.train, split.held_out) == ((), ())


def test_transcript_pairs(data_folder: Path):
    rows = read_comparisons(data_folder / "hh-harmless" / "pairs.jsonl.gz")
    dropped = sum(count for cause, count in rows.counts.items() if cause.startswith("dropped"))
    assert (len(rows.rows), dropped) == (1795, 5)
    assert all(row.prompt[-1].role == "user" for row in rows.rows)


def test_reading_is_fast(data_folder: Path):
    """5,496 rankings take about 0.3 s; ten times that would be a quadratic check somewhere."""
    begin = time.process_time()
    read_rankings(data_folder / "e2e" / "rankings.jsonl.gz")
    assert time.process_time() - begin < 5
