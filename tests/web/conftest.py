import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sites import Site, prepare
from tabs import address, browser, tab

__all__ = ["address", "browser", "tab"]


@pytest.fixture(scope="session")
def prepared_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "project"
    prepare(folder)
    return folder


@pytest.fixture
def site(prepared_project: Path, tmp_path: Path) -> Iterator[Site]:
    shutil.copytree(prepared_project, tmp_path / "project")
    made = Site(tmp_path / "project")
    yield made
    made.project.close()
