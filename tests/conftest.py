"""Shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# One PostgreSQL for all folders of tests: a fixture of the session that two `conftest.py` import would start twice.
pytest_plugins = ["databases"]

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Results must not depend on how many cores the machine has."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with tokenizer and chat template."""
    from tiny import make_folder

    return make_folder(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real human judgments (PLAUDIT_DATA, or shared/data beside the repository)."""
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("PLAUDIT_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}: set PLAUDIT_DATA to run the tests on real human judgments")
    return folder
