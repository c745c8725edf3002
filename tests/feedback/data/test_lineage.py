"""Which judgments made a model, and which models used somebody's words: the same rows from both ends."""

from pathlib import Path

import pytest
from pydantic import Field
from sqlalchemy import select, update

from plaudit.core.config import Config
from plaudit.core.errors import RunError
from plaudit.core.files import sha256_tree, write_jsonl
from plaudit.core.run import Run
from plaudit.feedback.content.import_files import check_file
from plaudit.feedback.data.lineage import ancestors, made_of, record_run, uses_of, uses_of_member
from plaudit.feedback.data.recipe import Recipe
from plaudit.feedback.data.recorded import import_judgments
from plaudit.feedback.data.snapshots import Snapshot, create_snapshot
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store import tables
from plaudit.feedback.store.database import Database


class Settings(Config):
    run: Path = Field(description="Run.")
    data: str | None = Field(None, description="Data.")
    policy: str | None = Field(None, description="Where it starts.")


def trained(folder: Path, *, stage: str, data: str | None = None, start: Path | None = None) -> Path:
    """A finished run with a model, as training leaves it."""
    inputs = {"data": data} if data else {}
    if start is not None:
        inputs["policy"] = sha256_tree(start / "model")
    with Run.open(
        folder,
        stage=stage,
        config=Settings.model_validate({"run": folder, "policy": start and str(start)}),
        inputs=inputs,
    ) as run:
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_text(f"{stage} {folder.name}")
        run.finish({})
    return folder


@pytest.fixture
def snapshot(database: Database, tmp_path: Path) -> Snapshot:
    rows = [
        {
            "prompt": f"Say {n}.",
            "responses": ["a", "b"],
            "ranks": [1, 2],
            "labeler": who,
            "reason": "So." if n else None,
        }
        for who, count in (("ada", 3), ("ben", 1))
        for n in range(count)
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    with database.write() as c:
        import_judgments(c, check_file(tmp_path / "rows.jsonl", "rankings"), by=None, name="old")
        c.execute(update(tables.prompt).values(split="train"))
    return create_snapshot(database, tmp_path, Recipe.model_validate({"name": "people"}), by=None)


def test_from_a_run_to_people_and_back(database: Database, snapshot: Snapshot, tmp_path: Path) -> None:
    reward = trained(tmp_path / "reward", stage="reward", data=snapshot.sha256)
    with database.write() as c:
        made = record_run(c, reward)
    assert [(use.snapshot, use.stage, use.model_sha256) for use in made.uses] == [
        ("people v1", "reward", sha256_tree(reward / "model"))
    ]
    assert [(share.labeler, share.batch, share.judgments) for share in made.shares] == [
        ("ada", "old", 3),
        ("ben", "old", 1),
    ]
    with database.read() as c:
        ada = c.scalar(select(tables.member.c.id).where(tables.member.c.pseudonym == "ada")) or ""
        (use,) = uses_of_member(c, ada)
        assert (use.snapshot, use.run, use.judgments, use.written) == ("people v1", str(reward), 3, 2)
        assert [one.run for one in uses_of(c, snapshot.id)] == [str(reward)]
        assert made_of(c, "elsewhere").judgments == 0


def test_a_run_inherits_what_its_start_was_made_of(
    database: Database, snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sft = trained(Path("runs/sft"), stage="sft", data=snapshot.sha256)
    ppo = trained(Path("runs/ppo"), stage="ppo", start=sft)
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")  # paths in settings are relative to where training was started
    ppo = tmp_path / ppo
    assert [run.name for run in ancestors(ppo)] == ["ppo", "sft"]
    with database.write() as c:
        record_run(c, ppo)
        again = record_run(c, ppo)
    assert len(again.uses) == 1, "the same use is noted once"
    assert again.judgments == 4


def test_a_start_that_was_replaced_is_no_ancestor(database: Database, snapshot: Snapshot, tmp_path: Path) -> None:
    sft = trained(tmp_path / "sft", stage="sft", data=snapshot.sha256)
    ppo = trained(tmp_path / "ppo", stage="ppo", start=sft)
    (sft / "model" / "weights").write_text("other weights")
    assert [run.name for run in ancestors(ppo)] == ["ppo"]
    with pytest.raises(FeedbackError, match="used no snapshot of this project"), database.write() as c:
        record_run(c, ppo)


def test_a_folder_that_is_no_run(sqlite_database: Database, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no run folder"), sqlite_database.write() as c:
        record_run(c, tmp_path)
