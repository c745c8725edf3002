import io
from pathlib import Path

from rich.console import Console
from synthetic_runs import write_evaluation

from plaudit.reports.terminal import overview


def shown(path: Path) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    console.print(overview([path]))
    return console.file.getvalue()


def test_every_measured_number_has_a_line(loop: Path):
    text = shown(loop)
    assert "73.3\u00a0% (71.4 to 75.2)" in text
    assert "Win rate of ppo against sft by true preference" in text
    assert "1.80 (1.68 to 1.92)" in text


def test_control_codes_of_names_do_not_reach_the_terminal(tmp_path: Path):
    write_evaluation(tmp_path / "evaluation")
    summary = tmp_path / "evaluation" / "summary.json"
    summary.write_text(summary.read_text().replace("true preference", "[bold]x\\u001b[31m"))
    text = shown(tmp_path / "evaluation")
    assert "\x1b[31m" not in text
    assert "[bold]x⟨U+001B⟩[31m" in text
