"""A snapshot that was changed is refused; an untouched one is named."""

from pathlib import Path

import pytest

from plaudit.core.errors import DataError
from plaudit.core.files import sha256_file, write_json, write_jsonl
from plaudit.datasets.read import read_demonstrations, read_prompts


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    file = tmp_path / "people-v2.jsonl"
    write_jsonl(file, [{"prompt": "Say a.", "response": "a"}, {"prompt": "Say b.", "response": "b"}])
    write_json(tmp_path / "people-v2.manifest.json", {"name": "people", "version": 2, "sha256": sha256_file(file)})
    return file


def test_an_untouched_snapshot_is_named_in_the_inputs_of_a_run(snapshot: Path) -> None:
    rows = read_demonstrations(snapshot)
    assert rows.snapshot == "people v2"
    assert rows.inputs("data") == {"data": sha256_file(snapshot), "data snapshot": "people v2"}


@pytest.mark.parametrize("change", [lambda text: text.replace("a", "c", 1), lambda text: text + "\n", lambda _: ""])
def test_a_changed_snapshot_is_refused_whatever_is_read_from_it(snapshot: Path, change) -> None:
    snapshot.write_text(change(snapshot.read_text()))
    for read in (read_demonstrations, read_prompts):
        with pytest.raises(DataError, match="changed after snapshot people v2 was made"):
            read(snapshot)


def test_a_broken_manifest_is_no_licence_to_read_on(snapshot: Path) -> None:
    snapshot.with_name("people-v2.manifest.json").write_text('{"name": "people"}')
    with pytest.raises(DataError, match="is no manifest of a snapshot"):
        read_demonstrations(snapshot)


def test_a_file_without_manifest_is_a_file(snapshot: Path) -> None:
    snapshot.with_name("people-v2.manifest.json").unlink()
    assert read_demonstrations(snapshot).inputs("data") == {"data": sha256_file(snapshot)}
