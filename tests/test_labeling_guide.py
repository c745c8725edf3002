"""Every `plaudit …` line of docs/labeling.md runs, in its order, on a tiny model and a few rows."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plaudit.cli.app import app
from plaudit.core.files import write_jsonl
from plaudit.feedback.tasks import guidelines

GUIDE = Path(__file__).parents[1] / "docs" / "labeling.md"
QUICK = {
    "sample": ["max_new_tokens=4", "precision=float32"],
    "reward": ["train_layers=2", "precision=float32"],
}
FRUIT = ("apple", "pear", "plum", "fig", "lime", "kiwi", "date", "grape", "melon", "peach", "cherry", "mango")


def commands() -> list[list[str]]:
    """The command lines in the guide's code blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("plaudit ")]


def write_data() -> None:
    """The files that the guide names."""
    write_jsonl(Path("prompts.jsonl"), [{"prompt": f"Say {fruit}."} for fruit in FRUIT])
    write_jsonl(
        Path("answers.jsonl"),
        [{"prompt": f"Describe a {fruit}.", "responses": [f"A {fruit}.", "Sweet.", "Round."]} for fruit in FRUIT],
    )
    write_jsonl(
        Path("rankings.jsonl"),
        [
            {"prompt": f"Rank {fruit}.", "responses": [fruit, f"{fruit} {fruit}", "no"], "ranks": ranks, "labeler": who}
            for fruit in FRUIT
            for who, ranks in (("ada", [1, 2, 2]), ("ben", [1, 2, 3]))
        ],
    )


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the projects that would have been served, by a server that ends at once."""
    names: list[str] = []

    def serve(project: Any, **_settings: Any) -> None:
        names.append(project.name)
        if project.folder.name == "my-project":  # what the owner does in the browser
            with project.database.write() as c:
                guidelines.save_draft(c, "Be kind.", [], by=None)
                guidelines.publish(c, by=None)

    monkeypatch.setattr("plaudit.web.server.serve", serve)
    return names


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_guides_commands_run(
    tiny_policy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_data()
    for command, *settings in commands():
        given = [setting.replace("smollm2", str(tiny_policy_folder)) for setting in settings]
        result = CliRunner().invoke(app, [command, *given, *QUICK.get(command, [])])
        assert result.exit_code == 0, f"plaudit {command} {given}: {result.stderr[-2000:]} {result.exception!r}"
    assert len(served) == 2
    assert Path("pairs.jsonl").is_file()
