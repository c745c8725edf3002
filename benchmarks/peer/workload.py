"""The rows of the fixed workload that each side trains on. Plain Python: both environments read it.

Token ids are in the files, so the peer takes them as they are; Plaudit renders the same messages and is checked
against them. An answer there ends with the newline of the chat template, which Plaudit leaves out: one token less.
"""

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read(folder: Path, name: str) -> list[Row]:
    """All rows of a file."""
    with (folder / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def take(folder: Path, name: str, count: int) -> list[Row]:
    """The first `count` rows that fit whole: the file cuts long demonstrations, which Plaudit never does."""
    rows = read(folder, name)
    if name == "sft":
        limit = max(len(row["input_ids"]) for row in rows)
        rows = [row for row in rows if len(row["input_ids"]) < limit]
    if len(rows) < count:
        raise SystemExit(f"{folder / name}.jsonl holds {len(rows)} rows that fit; {count} are needed: time fewer steps")
    return rows[:count]


def in_steps(rows: list[Any], size: int) -> list[list[Any]]:
    """Rows in batches of `size`."""
    return [rows[i : i + size] for i in range(0, len(rows), size)]
