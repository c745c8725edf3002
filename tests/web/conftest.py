from collections.abc import Iterator
from pathlib import Path

import pytest
from sites import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "project")
    yield made
    made.project.close()
