"""Every `plaudit …` line of the README runs, in its order, on a tiny model and a few rows."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plaudit.cli.app import app
from plaudit.core.files import write_jsonl

README = Path(__file__).parents[1] / "README.md"
# What a command needs besides its own line to take seconds on a tiny model.
QUICK = {
    "sft": ["epochs=1", "samples=1", "sample_tokens=4", "precision=float32"],
    "reward": ["train_layers=2", "precision=float32"],
    "ppo": [
        "held_out=0.3",
        "train_layers=2",
        "iterations=2",
        "prompts_per_iteration=4",
        "sampling.max_new_tokens=6",
        "precision=float32",
    ],
    "dpo": ["train_layers=2", "precision=float32"],
    "evaluate": ["max_new_tokens=6", "precision=float32"],
    "chat": ["max_new_tokens=4", "precision=float32"],
    "doctor": ["precision=float32"],
    "report": [],
}
FRUIT = ("apple", "pear", "plum", "fig", "lime", "kiwi", "date", "grape", "melon", "peach", "cherry", "mango")


def commands() -> list[list[str]]:
    """The command lines in the README's code blocks, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("plaudit ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def write_data() -> None:
    """The files that the README names, with other prompts in each."""
    write_jsonl(Path("demonstrations.jsonl"), [{"prompt": f"Name {f}.", "response": f"{f}."} for f in FRUIT])
    rankings = [
        {"prompt": f"Rank {f}.", "responses": [f, f"{f} {f}", "no"], "ranks": [1, 2, 2], "labeler": labeler}
        for f in FRUIT
        for labeler in ("a", "b")
    ]
    write_jsonl(Path("rankings.jsonl"), rankings)
    write_jsonl(Path("prompts.jsonl"), [{"prompt": f"Say {f}."} for f in FRUIT * 2])
    write_jsonl(Path("unseen.jsonl"), [{"prompt": f"Spell {f}."} for f in FRUIT])
    Path("rule.py").write_text("def score(prompts, responses):\n    return [-float(len(r)) for r in responses]\n")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_readmes_commands_run(tiny_policy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_data()
    seen = set()
    for command, *settings in commands():
        seen.add(command)
        given = [s.replace("smollm2", str(tiny_policy_folder)) for s in settings]
        result = CliRunner().invoke(app, [command, *given, *QUICK[command]], input="Hello\n/quit\n")
        assert result.exit_code == 0, f"plaudit {command} {given}: {result.stderr[-2000:]}"
    assert seen == QUICK.keys()
    assert list(Path("runs").rglob("report.html")), "the report command leaves a page"
