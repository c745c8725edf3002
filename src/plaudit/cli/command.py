"""What every command has in common: `key=value` settings, `--help` that teaches, `--json`, errors without traceback.

A command may take its first settings as bare words (`plaudit import rankings FILE`) and true-or-false ones as switches
(`plaudit label --demo`): see `Command.words` and `Command.switches`. Both are only another way to write `key=value`.
"""

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand

from plaudit.core.config import Config, is_setting, load_config, settings_of
from plaudit.core.errors import ConfigError, Interrupted, PlauditError
from plaudit.core.progress import be_quiet

EXIT_FINDINGS = 1
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


class Outcome(NamedTuple):
    """What a command found: `data` for `--json`, `text` for people, and the exit code."""

    data: Mapping[str, Any]
    text: str | Text
    exit_code: int = 0


@dataclass(frozen=True)
class Command:
    """A command of `plaudit`.

    settings: gives the Config class. Called only when the command runs or explains itself, because importing a recipe
              imports torch, and `plaudit --help` must not wait for that.
    run:      does the work, from the settings.
    words:    settings that may be given as bare words, in this order.
    switches: true-or-false settings that may be given as `--name`.
    """

    name: str
    summary: str
    examples: tuple[str, ...]
    settings: Callable[[], type[Config]]
    run: Callable[[Any], Outcome]
    panel: str
    words: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()


def add_command(app: typer.Typer, command: Command) -> None:
    """Register a command."""
    usage = " ".join([*(f"[{name.upper()}]" for name in command.words), "KEY=VALUE"])

    class Explained(TyperCommand):
        """Help with examples and the table of settings."""

        def format_help(self, ctx: Any, formatter: Any) -> None:
            super().format_help(ctx, formatter)
            _explain(command)

    def call(
        settings: Annotated[
            list[str] | None, typer.Argument(metavar=usage, help="Settings; see the table below.")
        ] = None,
        config: Annotated[Path | None, typer.Option(help="YAML file of settings; key=value goes before it.")] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="Print exactly one JSON object on standard output.")
        ] = False,
        quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no messages, errors excepted.")] = False,
        traceback: Annotated[bool, typer.Option("--traceback", help="Show where in the code an error arose.")] = False,
    ) -> None:
        raise typer.Exit(_execute(command, config, settings or [], as_json=as_json, quiet=quiet, traceback=traceback))

    app.command(
        command.name,
        cls=Explained,
        help=command.summary,
        rich_help_panel=command.panel,
        # `--lr=1e-5` reaches the settings as it stands, where the error can say how it is written.
        context_settings={"ignore_unknown_options": True},
    )(call)


def _execute(
    command: Command, config: Path | None, overrides: list[str], *, as_json: bool, quiet: bool, traceback: bool
) -> int:
    if quiet:
        be_quiet()
    try:
        settings = load_config(command.settings(), config, as_overrides(command, overrides))
        # Libraries print what they like; a script must find nothing but the object.
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            outcome = command.run(settings)
        _print_result(outcome, as_json=as_json)
        return outcome.exit_code
    except (KeyboardInterrupt, Interrupted) as error:
        if traceback:
            raise
        _complain(str(error) or f"Interrupted. Start again with: {_command_line()}", style="yellow")
        return EXIT_INTERRUPTED
    except PlauditError as error:
        if traceback:
            raise
        _complain(f"{error}", style="bold red")
        return EXIT_ERROR
    except BrokenPipeError:  # `plaudit … | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FINDINGS


def as_overrides(command: Command, arguments: Sequence[str]) -> list[str]:
    """The arguments as `key=value`: bare words by their place, switches by their name.

    Raises:
        ConfigError: an argument with dashes that is no switch, or more words than the command takes.
    """
    free = iter(command.words)
    overrides: list[str] = []
    for argument in arguments:
        name, equals, _ = argument.lstrip("-").replace("-", "_").partition("=")
        if argument.startswith("-") and not (name in command.switches and not equals):
            raise ConfigError(f"`{argument}` is no option. Settings are written without dashes: {name}=…")
        if argument.startswith("-"):
            overrides.append(f"{name}=true")
        elif is_setting(argument):
            overrides.append(argument)
        elif (word := next(free, None)) is not None:
            overrides.append(f"{word}={argument}")
        else:
            taken = f" beside {', '.join(command.words)}" if command.words else ""
            raise ConfigError(f"`{argument}` is no setting. Write key=value{taken}, for example seed=1.")
    return overrides


def _print_result(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(outcome.data, ensure_ascii=False, allow_nan=False, default=str), flush=True)
    elif outcome.text:
        Console().print(outcome.text, markup=False, highlight=False, soft_wrap=True)
        sys.stdout.flush()  # a reader that is gone must be noticed here, not at exit


def _complain(message: str, *, style: str) -> None:
    Console(stderr=True).print(message, style=style, markup=False, highlight=False, soft_wrap=True)


def _command_line() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _explain(command: Command) -> None:
    console = Console()
    console.print(" Examples", style="bold")
    for example in command.examples:
        console.print(f"   {example}", markup=False, highlight=False, soft_wrap=True)
    table = Table("setting", "default", "meaning", box=None, padding=(0, 2, 0, 1), header_style="bold", show_edge=False)
    for setting in settings_of(command.settings()):
        required = setting.default == "required"
        table.add_row(
            Text(setting.key, style="cyan"),
            Text(setting.default, style="red" if required else ""),
            Text.assemble(setting.description, (f"  {setting.type}", "dim")),
        )
    console.print()
    console.print(table)
