"""`plaudit label`: serve a project's labeling site."""

import tempfile
from pathlib import Path

from pydantic import Field

from plaudit.cli.command import Command, Outcome
from plaudit.core.config import Config
from plaudit.core.errors import ConfigError
from plaudit.core.progress import say


class LabelConfig(Config):
    """Settings of `plaudit label`."""

    dir: Path | None = Field(None, description="Project folder, made by `plaudit init`.")
    demo: bool = Field(False, description="Serve a new project that is filled with simulated labelers, to look around.")
    port: int = Field(8021, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    host: str = Field("127.0.0.1", description="Address to listen on. Others than this machine's own need https_host.")
    https_host: str | None = Field(
        None,
        description="Name under which a proxy with TLS on this machine offers the site: label.example.org.",
    )


def _run(config: LabelConfig) -> Outcome:
    if (config.dir is None) != config.demo:
        raise ConfigError("Name the folder of a project (plaudit label DIR), or take a look with: plaudit label --demo")
    return _serve_demo(config) if config.dir is None else _serve_folder(config, config.dir)


def _serve_folder(config: LabelConfig, folder: Path) -> Outcome:
    from plaudit.feedback.project import open_project
    from plaudit.web.server import serve

    project = open_project(folder)
    try:
        serve(
            project,
            host=config.host,
            port=config.port,
            https_host=config.https_host,
            started=lambda address: say(f"{project.name} is served at {address}\nStop it with Ctrl+C."),
        )
    finally:
        project.close()
    return Outcome({"dir": str(folder)}, "Stopped; nothing is lost.")


def _serve_demo(config: LabelConfig) -> Outcome:
    from plaudit.feedback.simulation.demo import create_demo
    from plaudit.web.demo import make_doors
    from plaudit.web.server import serve

    with tempfile.TemporaryDirectory(prefix="plaudit-demo-") as folder:
        say("Filling a project with simulated labelers; it lasts as long as this command.")
        project = create_demo(Path(folder) / "demo")
        doors = make_doors(project)

        def announce(address: str) -> None:
            say(f"{project.name} is served at {address}. Open one of these:")
            for token, door in doors.items():
                say(f"  {address}/enter/{token}  {door.label}")
            say("Stop it with Ctrl+C.")

        try:
            serve(
                project,
                host=config.host,
                port=config.port,
                https_host=config.https_host,
                doors=doors,
                started=announce,
            )
        finally:
            project.close()
    return Outcome({"demo": True}, "Stopped; the demo is gone.")


LABEL = Command(
    "label",
    "Serve a project's labeling site: people judge answers in the browser.",
    ("plaudit label --demo", "plaudit label my-project", "plaudit label my-project port=9000"),
    lambda: LabelConfig,
    _run,
    "Collect judgments",
    words=("dir",),
    switches=("demo",),
)
