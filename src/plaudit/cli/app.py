"""`plaudit`: the command line. Importing this stays cheap; each command imports what it needs when it runs."""

from importlib.metadata import version
from typing import Annotated

import typer

from plaudit.cli import (
    chat,
    doctor,
    evaluate,
    export,
    generate,
    import_,
    label,
    lineage,
    project,
    quality,
    quickstart,
    report,
    sample,
    score,
    snapshot,
    tasks,
    train,
)
from plaudit.cli.command import add_command

app = typer.Typer(
    name="plaudit",
    help="Reinforcement learning from human feedback: from demonstrations and rankings to a better model.",
    epilog="Settings are key=value, dotted where nested; `plaudit COMMAND --help` lists them with their defaults.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = (
    quickstart.QUICKSTART,
    train.SFT,
    train.REWARD,
    train.PPO,
    train.DPO,
    generate.GENERATE,
    score.SCORE,
    evaluate.EVALUATE,
    chat.CHAT,
    label.LABEL,
    project.INIT,
    project.MIGRATE,
    project.BACKUP,
    project.RESTORE,
    project.VERIFY,
    import_.IMPORT,
    sample.SAMPLE,
    tasks.TASKS,
    snapshot.SNAPSHOT,
    lineage.LINEAGE,
    export.EXPORT,
    quality.QUALITY,
    report.REPORT,
    doctor.DOCTOR,
)
for _command in COMMANDS:
    add_command(app, _command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(version("plaudit"))
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point of the `plaudit` script."""
    app()
