"""All benchmarks, one after the other: python -m benchmarks. Each prints what it measured as JSON lines.

Those on people's judgments need PLAUDIT_DATA, those on training speed PLAUDIT_PEER (its folder `workload/`); without
them they are left out, and said so. `make bench-peer`, the comparison with TRL, is apart. Leave the machine alone
meanwhile.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
DATA = os.environ.get("PLAUDIT_DATA")
PEER = os.environ.get("PLAUDIT_PEER")


def main() -> int:
    failed: list[str] = []
    for name, arguments, missing in plan():
        print(f"== {name}", file=sys.stderr, flush=True)
        if missing:
            print(f"left out: {missing} is not set", file=sys.stderr, flush=True)
        elif subprocess.run([sys.executable, str(HERE / f"{name}.py"), *arguments], check=False).returncode:
            failed.append(name)
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    return bool(failed)


def plan() -> list[tuple[str, list[str], str]]:
    """Name, arguments, and the variable that is missing for it."""
    rankings = (
        [] if DATA is None else ["--rankings", str(Path(DATA) / "e2e" / "rankings.jsonl.gz"), "--criterion", "quality"]
    )
    return [
        ("ppo_iteration", [], "" if PEER else "PLAUDIT_PEER"),
        ("startup", [], "" if PEER else "PLAUDIT_PEER"),
        ("growth", [], "" if PEER else "PLAUDIT_PEER"),
        ("quality", [], ""),
        ("import_prompts", [], ""),
        ("labeling", [], ""),
        ("labeling_http", [], ""),
        ("selection", rankings, "" if DATA else "PLAUDIT_DATA"),
    ]


if __name__ == "__main__":
    sys.exit(main())
