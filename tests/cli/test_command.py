import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner, Result

from plaudit.cli import app as cli
from plaudit.cli.command import Command, Outcome, add_command, as_overrides
from plaudit.core.config import Config, load_config, settings_of
from plaudit.core.errors import ConfigError, DataError, Interrupted

HEAVY = ("torch", "transformers", "numpy", "scipy", "datasets", "peft")


class Probe(Config):
    value: float = Field(1.0, description="A number.")
    name: str | None = Field(None, description="A name.")


class Wordy(Config):
    kind: str = Field(description="A kind.")
    file: Path = Field(description="A file.")
    dry_run: bool = Field(False, description="Only look.")


WORDY = Command(
    "probe",
    "Try.",
    ("plaudit probe a b",),
    lambda: Wordy,
    print,
    "Panel",
    words=("kind", "file"),
    switches=("dry_run",),
)


@pytest.mark.parametrize(
    "arguments",
    [
        ["rankings", "some/a=b.jsonl", "--dry-run"],
        ["rankings", "--dry_run", "file=some/a=b.jsonl"],
        ["dry_run=true", "rankings", "some/a=b.jsonl"],
    ],
)
def test_words_and_switches_are_settings(arguments: list[str]) -> None:
    config = load_config(Wordy, None, as_overrides(WORDY, arguments))
    assert config == Wordy(kind="rankings", file=Path("some/a=b.jsonl"), dry_run=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "b", "c"], "`c` is no setting. Write key=value beside kind, file"),
        (["a", "--dry-run=yes"], "`--dry-run=yes` is no option. Settings are written without dashes: dry_run=…"),
        (["a", "b", "kind=c"], "kind is given twice"),
        (["a"], "file is not set: A file."),
    ],
)
def test_words_too_many_twice_or_missing(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(Wordy, None, as_overrides(WORDY, arguments))


def invoke(run: Any, *arguments: str) -> Result:
    app = typer.Typer()
    add_command(app, Command("probe", "Try.", ("plaudit probe value=2",), lambda: Probe, run, "Panel"))

    @app.callback()
    def _root() -> None:  # with one command and no callback, Typer would leave out the command's name
        pass

    return CliRunner().invoke(app, ["probe", *arguments])


def echo(config: Probe) -> Outcome:
    print("a library that prints")
    return Outcome({"value": config.value, "name": config.name}, f"value {config.value} [bold]")


def test_people_get_text_and_scripts_exactly_one_object() -> None:
    assert invoke(echo, "value=2e-5").stdout.splitlines() == ["a library that prints", "value 2e-05 [bold]"]
    result = invoke(echo, "--json", "value=2e-5", 'name="é"')
    assert json.loads(result.stdout) == {"value": 2e-5, "name": "é"}
    assert result.stdout.count("\n") == 1
    assert "a library that prints" in result.stderr


def test_a_file_of_settings_and_arguments_over_it(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("value: 3\nname: file\n")
    result = invoke(echo, "--config", str(tmp_path / "s.yaml"), "name=argument", "--json")
    assert json.loads(result.stdout) == {"value": 3.0, "name": "argument"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["valu=3"], "Unknown setting valu. Did you mean value?"),
        (["value=x"], "value=x: expected number"),
        (["--value=3"], "`--value=3` is no option. Settings are written without dashes: value=…"),
        (["--config", "none.yaml"], "Cannot read the settings file none.yaml"),
    ],
)
def test_wrong_settings_are_an_error_without_traceback(arguments: list[str], message: str) -> None:
    result = invoke(echo, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def raise_(error: BaseException) -> Any:
    def run(_config: Probe) -> Outcome:
        raise error

    return run


def test_errors_interruptions_and_findings_have_their_exit_codes() -> None:
    refused = invoke(raise_(DataError("a.jsonl:3: no [prompt]. Add it.")), "--json")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.strip() == "a.jsonl:3: no [prompt]. Add it."
    saved = invoke(raise_(Interrupted("Stopped after step 3. Give the same command again to go on.")))
    assert saved.exit_code == 130
    assert "after step 3" in saved.stderr
    bare = invoke(raise_(KeyboardInterrupt()))
    assert bare.exit_code == 130
    assert "Interrupted. Start again with: " in bare.stderr
    assert invoke(lambda _config: Outcome({}, "", exit_code=1)).exit_code == 1


def test_traceback_on_demand() -> None:
    error = DataError("no prompt")
    assert invoke(raise_(error), "--traceback").exception is error


def test_quiet_silences_all_but_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAUDIT_QUIET", "")  # restored afterwards
    result = invoke(raise_(DataError("still said")), "--quiet")
    assert "still said" in result.stderr


def test_help_is_instant_because_nothing_heavy_is_imported() -> None:
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom plaudit.cli.app import app\n"
        "assert 'quickstart' in CliRunner().invoke(app, ['--help']).stdout\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_installed_script() -> None:
    script = Path(sys.executable).with_name("plaudit")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+\.\d+.*\n", done.stdout)


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_every_command_explains_every_setting_and_its_examples_are_valid(command: Command) -> None:
    result = CliRunner(env={"COLUMNS": "250"}).invoke(cli.app, [command.name, "--help"])
    assert result.exit_code == 0
    for setting in settings_of(command.settings()):
        assert re.search(rf"^ {re.escape(setting.key)} .*{re.escape(setting.description)}", result.stdout, re.MULTILINE)
    assert command.examples
    for example in command.examples:
        assert example in result.stdout
        words = shlex.split(example)
        called = words[words.index("plaudit") + 1 :]
        assert called[0] == command.name
        if "--config" not in called:
            given = [word for word in called[1:] if word not in ("--json", "--quiet")]
            load_config(command.settings(), None, as_overrides(command, given))
