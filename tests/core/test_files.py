import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.core.errors import DataError, RunError
from plaudit.core.files import (
    append_line,
    atomic_folder,
    atomic_write,
    clean_leftovers,
    is_leftover,
    read_jsonl,
    sha256_tree,
    write_json,
    write_jsonl,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
rows = st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=3), max_size=4)


@given(rows, st.sampled_from(["rows.jsonl", "rows.jsonl.gz"]))
def test_json_lines_round_trip(records: list[dict[str, object]], name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        write_jsonl(file, records)
        again = list(read_jsonl(file))
        assert again == records
        # == takes -0.0 for 0.0 and 1 for 1.0; the text does not.
        assert repr(again) == repr(records)
        assert os.listdir(folder) == [name]


def test_half_a_surrogate_pair_survives(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "\ud83d alone, é"}])
    assert list(read_jsonl(tmp_path / "a.jsonl")) == [{"text": "\ud83d alone, é"}]


@pytest.mark.parametrize("line", [b"{not json}", b"[1, 2]", b'"text"', b"\xff\xfe{}"])
def test_a_bad_line_is_named(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"a": 1}\n\n' + line + b"\n")
    with pytest.raises(DataError, match=r"rows\.jsonl:3: .*one JSON object on each line"):
        list(read_jsonl(file))


def test_nan_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    write_json(file, {"a": 1})
    with pytest.raises(ValueError, match="nan"):
        write_json(file, {"a": float("nan")})
    assert file.read_text() == '{\n  "a": 1\n}\n'


def test_a_failing_body_leaves_the_old_folder_and_no_trace(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "weights").write_text("old")
    with pytest.raises(ZeroDivisionError):
        _write_half(target)
    assert (target / "weights").read_text() == "old"
    assert os.listdir(tmp_path) == ["model"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model"
    for name in ("old", "new"):
        with atomic_folder(target) as folder:
            assert not (target / name).exists()
            (folder / name).mkdir()
            (folder / name / "file").write_text(name)
    assert [path.relative_to(target).as_posix() for path in sorted(target.rglob("*"))] == ["new", "new/file"]
    assert os.listdir(target.parent) == ["model"]


WRITER = """
import os, sys
from pathlib import Path
from plaudit.core.files import atomic_folder, atomic_write
os.fsync = lambda descriptor: None  # waiting for the disk would take up nearly all the time a kill can hit
target = Path(sys.argv[1])
for version in range(10**9):
    if version == 3:
        print("writing", flush=True)
    if sys.argv[2] == "file":
        atomic_write(target, f"{version:09d}" * 200_000)
    else:
        with atomic_folder(target) as folder:
            for part in range(8):
                (folder / f"part-{part}").write_text(f"{version:09d}" * 10_000)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("delay", [0.0, 0.013, 0.029, 0.047])
def test_killed_while_writing(tmp_path: Path, kind: str, delay: float) -> None:
    target = tmp_path / "target"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target), kind], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    clean_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["target"]
    parts = [target] if kind == "file" else sorted(target.iterdir())
    assert len(parts) == (1 if kind == "file" else 8)
    contents = {part.read_text() for part in parts}
    assert len(contents) == 1, "parts of different versions"
    content = contents.pop()
    assert content == content[:9] * (200_000 if kind == "file" else 10_000)


def test_killed_between_the_two_renames_of_a_replacement(tmp_path: Path) -> None:
    dead = _dead_pid()
    aside = tmp_path / f".model.plaudit-old-{dead}-0123abcd"
    half = tmp_path / f".model.plaudit-new-{dead}-0123abcd"
    aside.mkdir()
    (aside / "weights").write_text("old")
    half.mkdir()
    clean_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["model"]
    assert (tmp_path / "model" / "weights").read_text() == "old"


def test_cleaning_spares_the_living_and_the_user(tmp_path: Path) -> None:
    living = tmp_path / f".model.plaudit-new-{os.getppid()}-0123abcd"
    users = tmp_path / ".model.plaudit-notes"
    for path in (living, users):
        path.mkdir()
    with atomic_folder(tmp_path / "other") as ours:
        clean_leftovers(tmp_path)
        assert ours.is_dir()
    assert living.is_dir()
    assert users.is_dir()
    assert is_leftover(living)
    assert not is_leftover(users)


FULL = """
import resource, signal, sys
from pathlib import Path
from plaudit.core.errors import RunError
from plaudit.core.files import atomic_write, atomic_folder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
target = Path(sys.argv[1])
try:
    if sys.argv[2] == "file":
        atomic_write(target, "x" * 10_000)
    else:
        with atomic_folder(target) as folder:
            (folder / "weights").write_text("x" * 10_000)
except RunError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_no_room_is_explained_and_costs_nothing(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    if kind == "folder":
        target.mkdir()
    (target if kind == "file" else target / "weights").write_text("good")
    command = [sys.executable, "-c", FULL, str(target), kind]
    message = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"Cannot write {target}: File too large. Nothing was overwritten. Remedy: " in message
    assert (target if kind == "file" else target / "weights").read_text() == "good"
    assert os.listdir(tmp_path) == ["target"]


def test_a_full_disk_while_appending() -> None:
    with pytest.raises(RunError, match=r"Cannot write /dev/full: No space left on device.*free some space"):
        append_line(Path("/dev/full"), "row")


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "run", Path("/proc/plaudit/run")):
        with pytest.raises(RunError, match=r"Cannot write .*Nothing was overwritten\. Remedy: "):
            atomic_write(path, "text")
        with pytest.raises(RunError, match=r"Cannot write .*Nothing was overwritten\. Remedy: "), atomic_folder(path):
            pass


def test_a_read_only_folder(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        command = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(tmp_path)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("root, for whom no folder is read-only, without the right to mount one")
    else:
        tmp_path.chmod(0o500)
    try:
        with pytest.raises(RunError, match=r"Remedy: .*choose a folder elsewhere") as caught:
            atomic_write(tmp_path / "a", "text")
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno in (errno.EROFS, errno.EACCES)
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", str(tmp_path)], check=True)
        else:
            tmp_path.chmod(0o700)


def test_other_errors_of_the_body_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "model"):
        (tmp_path / "nothing").read_text()


def test_tree_hash_sees_names_contents_and_places_but_not_where_the_folder_lies(tmp_path: Path) -> None:
    def tree(name: str, files: dict[str, str]) -> str:
        for path, content in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(content)
        return sha256_tree(tmp_path / name)

    same = tree("a", {"x": "1", "sub/y": "2"})
    assert tree("b", {"sub/y": "2", "x": "1"}) == same
    hashes = [
        same,
        tree("c", {"x": "1", "sub/y": "3"}),
        tree("d", {"x": "1", "sub/z": "2"}),
        tree("e", {"x": "1", "y": "2"}),
        tree("f", {"x": "1"}),
    ]
    assert len(set(hashes)) == len(hashes)


def _write_half(target: Path) -> None:
    with atomic_folder(target) as folder:
        (folder / "weights").write_text("new")
        raise ZeroDivisionError


def _dead_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
        return process.pid
