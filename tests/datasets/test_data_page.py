"""The examples of docs/data.md are read, and its catalogue of errors is the truth."""

import re
from pathlib import Path

import pytest

from plaudit.datasets.read import read_any

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```(jsonl|json) (\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("suffix", "kind", "text"), EXAMPLES, ids=[f"{i}-{e[1]}" for i, e in enumerate(EXAMPLES)])
def test_examples_are_read_as_the_kind_they_show(tmp_path: Path, suffix: str, kind: str, text: str):
    path = tmp_path / f"example.{suffix}"
    path.write_text(text)
    rows = read_any(path)
    assert rows.kind == kind
    assert len(rows.rows) == (len(text.splitlines()) if suffix == "jsonl" else 1)
    if kind in ("ranking", "comparison"):
        row = rows.rows[0]
        best = row.chosen if kind == "comparison" else row.responses[row.ranks.index(1)]
        assert best == "Pear."


def test_the_page_has_an_example_of_every_kind_and_both_exports():
    assert {kind for _, kind, _ in EXAMPLES} == {"demonstration", "ranking", "comparison", "prompt"}
    assert sum(suffix == "json" for suffix, _, _ in EXAMPLES) == 3


def test_messages_in_the_catalogue_are_those_of_the_code():
    catalogue = PAGE.split("## Errors")[1].split("\n## ")[0]
    told = re.findall(r"^\|[^|]+\| `([^`]+)`", catalogue, re.MULTILINE)
    assert len(told) >= 14
    source = "".join(path.read_text() for path in (ROOT / "src/plaudit/datasets").glob("*.py"))
    source = source.replace("{MAX_LINE:,}", "4,000,000").replace("from {low:g} to {high:g}", "from 0 to 1")
    assert [message for message in told if message not in source] == []
