"""Modules of the examples, loaded by path: they are scripts and not part of the package."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def slots() -> ModuleType:
    return _load(EXAMPLES / "e2e" / "slots.py")


@pytest.fixture(scope="session")
def e2e_data() -> ModuleType:
    return _load(EXAMPLES / "e2e" / "data.py")
