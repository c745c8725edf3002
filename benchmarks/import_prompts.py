"""Seconds to import prompts into a new project: a file of distinct chat prompts, checked, deduplicated and stored.

    python benchmarks/import_prompts.py                              # 100,000 prompts into SQLite
    python benchmarks/import_prompts.py --database postgresql+psycopg://user@host/empty --prompts 1000000

Prints one JSON line: seconds of checking the file, of storing it, and of importing the same file again, when every
prompt is known; and the peak of memory. Wall-clock, one process.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from plaudit.core.files import write_jsonl
from plaudit.feedback.content.import_files import check_file
from plaudit.feedback.content.importing import import_prompts
from plaudit.feedback.project import create_project

WORDS = ("apple", "river", "winter", "letter", "window", "garden", "silver", "mother", "number", "summer")


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(options, Path(folder))), flush=True)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The three times, in seconds."""
    file = folder / "prompts.jsonl"
    write_jsonl(file, ({"prompt": prompt_text(number)} for number in range(options.prompts)))
    project = create_project(folder / "project", "Benchmark", options.database).project
    started = time.perf_counter()
    checked = check_file(file, "prompts")
    read = time.perf_counter()
    with project.database.write() as c:
        done = import_prompts(c, checked, by=None)
    stored = time.perf_counter()
    with project.database.write() as c:
        again = import_prompts(c, check_file(file, "prompts"), by=None)
    known = time.perf_counter()
    assert (done.new_prompts, again.new_prompts) == (options.prompts, 0)
    project.close()
    return {
        "prompts": options.prompts,
        "database": project.database.engine.dialect.name,
        "megabytes": round(file.stat().st_size / 1e6, 1),
        "check_s": round(read - started, 1),
        "store_s": round(stored - read, 1),
        "all_known_s": round(known - stored, 1),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
    }


def prompt_text(number: int) -> str:
    """A prompt of about 40 words that no other number has."""
    words = " ".join(WORDS[(number // 10**place) % 10] for place in range(6))
    return f"Question {number}: tell a friend about {words}. " + "Keep it short and say why it matters to you. " * 3


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--database", help="address of an empty PostgreSQL database; SQLite without it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
