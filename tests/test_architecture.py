"""The rules of docs/design/architecture.md that a machine can hold."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "plaudit"
FILES = sorted(SOURCE.rglob("*.py"))
FOLDERS = sorted(path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__")
# Longer than 400 lines, with the reason.
MAY_BE_LONG: dict[str, str] = {
    "feedback/store/tables.py": "the schema is read as a whole, and its tables point to each other",
}


def import_table() -> dict[str, set[str]]:
    """Folder -> what it may import, from the table "Folders and imports"; "a.b" allows only that module."""
    page = (ROOT / "docs" / "design" / "architecture.md").read_text(encoding="utf-8")
    section = page.split("## Folders and imports")[1].split("\n## ")[0]
    table: dict[str, set[str]] = {}
    for folder, cell in re.findall(r"^\| `(\w+)/` \|[^|]*\| ([^|]*) \|$", section, re.MULTILINE):
        allowed, _, denied = cell.partition(";")[0].partition(" but ")
        if "everything" in allowed:
            table[folder] = set(FOLDERS) - set(re.findall(r"\w+", denied))
        else:
            table[folder] = {name for name in re.findall(r"[\w.]+", allowed) if name.split(".")[0] in FOLDERS}
    return table


def imported_modules(path: Path) -> set[str]:
    """Dotted names of Plaudit's modules that the file imports, anywhere in it, without the leading "plaudit."."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by full name, so that this test can read it"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("plaudit.") for name in found if name.startswith("plaudit.")}


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def test_every_folder_is_in_the_table():
    assert set(import_table()) == set(FOLDERS)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_keep_to_the_table(path: Path):
    folder = path.relative_to(SOURCE).parts[0]
    if folder.endswith(".py"):
        return
    allowed = import_table()[folder] | {folder}
    for module in imported_modules(path):
        parts = module.split(".")
        assert parts[0] in allowed or ".".join(parts[:2]) in allowed or parts[0] not in FOLDERS, (
            f"{name_of(path)} imports plaudit.{module}; {folder}/ may import {', '.join(sorted(allowed))}"
        )


def feedback_rows() -> dict[str, int]:
    """Folder or module of feedback/ -> its row in the table "Layout" of feedback.md."""
    page = (ROOT / "docs" / "design" / "feedback.md").read_text(encoding="utf-8")
    section = page.split("## Layout")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return {name: row for row, cell in enumerate(cells) for name in re.findall(r"`(\w+)(?:/|\.py)`", cell)}


def test_feedback_imports_only_from_rows_above():
    rows = feedback_rows()
    inside = SOURCE / "feedback"
    assert set(rows) == {path.stem for path in inside.iterdir() if not path.name.startswith("__")}
    for path in inside.rglob("*.py"):
        if path == inside / "__init__.py":
            continue
        own = path.relative_to(inside).parts[0].removesuffix(".py")
        for module in imported_modules(path):
            folder, *rest = module.split(".")
            if folder == "feedback" and rest:
                assert rows[rest[0]] <= rows[own], (
                    f"{name_of(path)} imports plaudit.{module}, which stands below it in the table of feedback.md"
                )


def recipes() -> set[str]:
    """Modules of training/ that define `train`."""
    return {
        path.stem
        for path in (SOURCE / "training").glob("*.py")
        if any(
            isinstance(node, ast.FunctionDef) and node.name == "train"
            for node in ast.parse(path.read_text(encoding="utf-8")).body
        )
    }


def test_recipes_do_not_import_each_other():
    names = recipes()
    assert {"sft", "reward", "ppo", "dpo"} <= names
    for path in (SOURCE / "training").glob("*.py"):
        taken = {module.split(".")[1] for module in imported_modules(path) if module.startswith("training.")}
        assert not taken & names - {path.stem}, f"{path.name} imports the recipe {taken & names}"


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=name_of)
def test_init_files_hold_no_code(path: Path):
    body = ast.parse(path.read_text(encoding="utf-8")).body
    if path.parent == SOURCE:
        # Version and docstring only.
        assert all(isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign) for node in body)
    else:
        assert body == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_are_short(path: Path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 400 or name_of(path) in MAY_BE_LONG, f"{name_of(path)} has {lines} lines: it is asking to be two"


def modules_in(folder: str) -> list[str]:
    """All its modules, but for those that Alembic runs: they are scripts."""
    paths = [path.relative_to(SOURCE) for path in (SOURCE / folder).rglob("*.py")]
    return [
        ".".join(("plaudit", *path.with_suffix("").parts))
        for path in paths
        if path.name != "__init__.py" and "migrations" not in path.parts
    ]


def loaded_after(code: str) -> set[str]:
    """Names of the modules a fresh Python has loaded after running `code`."""
    script = f"{code}\nimport sys\nprint('\\n'.join(['LOADED', *sys.modules]))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.split("LOADED\n")[1].split())


@pytest.mark.parametrize("folder", ["core", "feedback", "reports"])
def test_folder_leaves_torch_out(folder: str):
    loaded = loaded_after("\n".join(f"import {module}" for module in modules_in(folder)))
    assert f"plaudit.{folder}" in loaded
    assert not loaded & {"torch", "transformers", "datasets"}


def test_help_is_instant():
    loaded = loaded_after(
        "import sys\nfrom plaudit.cli.app import main\nsys.argv = ['plaudit', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    )
    assert "plaudit.cli.app" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "numpy", "scipy"}


def test_nothing_below_the_command_line_prints():
    for path in FILES:
        if path.relative_to(SOURCE).parts[0] == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            printing = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            assert not printing, f"{name_of(path)}:{node.lineno} prints"


def test_no_pickle_and_no_remote_code():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"torch\.load\(|^import pickle|trust_remote_code=True", text, re.MULTILINE), name_of(path)
