"""What the commands that work on a labeling project share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from plaudit.core.config import Config

if TYPE_CHECKING:
    from plaudit.feedback.project import Project

PANEL = "Collect judgments"


class ProjectConfig(Config):
    """Base of the settings of commands that work on a project."""

    project: Path = Field(Path("."), description="Folder of the labeling project, made by `plaudit init`.")


@contextmanager
def opened(folder: Path) -> "Iterator[Project]":
    """The project in a folder, closed at the end. Raises ConfigError if there is none."""
    from plaudit.feedback.project import open_project

    project = open_project(folder)
    try:
        yield project
    finally:
        project.close()
