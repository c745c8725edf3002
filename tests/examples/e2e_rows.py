"""Rows of the E2E example's form, made up: enough for its stages to run."""

import gzip
import json
from pathlib import Path


def write_data(folder: Path, *, shared: bool = False) -> Path:
    """Write demonstrations and rankings; with `shared`, a prompt that stands in both."""
    written = [{"prompt": f"name[Written {i}]", "response": f"text {i} {j}"} for i in range(12) for j in range(3)]
    ranked = [
        {
            "prompt": "name[Written 0]" if shared and i == 0 else f"name[Ranked {i}]",
            "criterion": criterion,
            "labeler": f"w{(i + j) % 7}",
            "responses": [{"text": "a", "score": 50.0}, {"text": "b", "score": 90.0}, {"text": "c", "score": 50.0}],
        }
        for i in range(20)
        for j in range(3)
        for criterion in ("quality", "naturalness")
    ]
    folder.mkdir()
    for name, rows in (("demonstrations", written), ("rankings", ranked)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
    return folder
