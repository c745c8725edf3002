import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from databases import Cluster
from plaudit.core.errors import ConfigError, DataError
from plaudit.feedback import audit_log
from plaudit.feedback.people.accounts import create_invite, create_token
from plaudit.feedback.privacy.erasure import erase
from plaudit.feedback.project import Project, create_project, open_project
from plaudit.feedback.store import clock, tables
from plaudit.feedback.upkeep.backup import make_backup, read_backup, restore
from populate import add_assignment, add_guideline, add_member, add_ranking_task, add_submission


@pytest.fixture(params=["sqlite", "postgresql"])
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    """A project with a judgment, a session, a token and an open invitation."""
    address = None
    if request.param == "postgresql":
        cluster: Cluster = request.getfixturevalue("postgresql_cluster")
        address = cluster.url(cluster.create())
    with closing(create_project(tmp_path / "project", "Fruits", address).project) as project:
        with project.database.write() as connection:
            add_member(connection, "Olga", role="owner")
            ada = add_member(connection, "Ada")
            judge(connection, ada, "xylophone")
            values = {"created_at": 1, "seen_at": 1, "expires_at": clock.now() + clock.DAY}
            connection.execute(insert(tables.session).values(token_hash="h", member_id=ada, **values))
            create_token(connection, ada, "script", ["work"])
            create_invite(connection, "admin", by=None)
        yield project


def judge(connection: object, member: str, reason: str) -> None:
    guideline = connection.scalar(select(tables.guideline.c.id)) or add_guideline(connection)
    batch = connection.scalar(select(tables.batch.c.id))
    _, (task,) = add_ranking_task(connection, guideline_id=guideline, batch_id=batch)
    shown = list(
        connection.scalars(select(tables.task_response.c.response_id).where(tables.task_response.c.task_id == task))
    )
    assignment = add_assignment(connection, task, member, guideline, shown, state="submitted")
    add_submission(connection, assignment, guideline, dict.fromkeys(shown, 1), words={"reason": reason})


def fresh_place(project: Project, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, str | None]:
    """A folder with the secrets and the list of erasures, and the address of an empty database."""
    folder = tmp_path / "restored"
    folder.mkdir()
    for name in ("secrets.json", "erasures.jsonl"):
        if (project.folder / name).exists():
            shutil.copy2(project.folder / name, folder)
    if project.database.is_sqlite:
        return folder, None
    cluster: Cluster = request.getfixturevalue("postgresql_cluster")
    return folder, cluster.url(cluster.create())


def reasons(project: Project) -> list[str | None]:
    with project.database.read() as connection:
        return sorted(connection.scalars(select(tables.submission_text.c.body)), key=str)


def test_what_was_there_at_the_backup_comes_back_and_nothing_later(
    filled: Project, tmp_path: Path, request: pytest.FixtureRequest
):
    backup = make_backup(filled, tmp_path / "backup")
    assert backup == read_backup(tmp_path / "backup")
    assert backup.submissions == 1
    with filled.database.write() as connection:
        judge(connection, add_member(connection, "Bea"), "trombone")
    project, erased = restore(backup, *fresh_place(filled, tmp_path, request))
    with closing(project):
        assert (project.name, sum(erased), reasons(project)) == ("Fruits", 0, ["xylophone"])
        with project.database.read() as connection:
            assert audit_log.verify(connection).fault is None
            # What was revoked since the backup must not come back, so nothing of the kind does.
            assert connection.execute(select(tables.session)).all() == []
            assert connection.scalar(select(tables.api_token.c.revoked_at)) is not None
            assert max(connection.scalars(select(tables.invite.c.expires_at))) <= clock.now()
        with project.database.write() as connection:
            judge(connection, add_member(connection, "Cid"), "drum")
    with closing(open_project(tmp_path / "restored")) as again:
        assert reasons(again) == ["drum", "xylophone"]


def test_erased_words_stay_erased_after_a_restore(filled: Project, tmp_path: Path, request: pytest.FixtureRequest):
    backup = make_backup(filled, tmp_path / "backup")
    with filled.database.read() as connection:
        ada = connection.scalar(select(tables.member.c.id).where(tables.member.c.display_name == "Ada"))
    assert ada is not None
    erase(filled, ada, {"words", "account"}, by=None)
    project, erased = restore(backup, *fresh_place(filled, tmp_path, request))
    with closing(project):
        assert (erased.texts, erased.accounts, reasons(project)) == (1, 1, [None])
        with project.database.read() as connection:
            assert connection.scalar(select(tables.member.c.state).where(tables.member.c.id == ada)) == "erased"
    for file in (tmp_path / "restored").glob("plaudit.db*"):
        assert b"xylophone" not in file.read_bytes()


def test_a_backup_holds_no_secrets_and_is_not_for_everybody(filled: Project, tmp_path: Path):
    make_backup(filled, tmp_path / "backup")
    everything = b"".join(path.read_bytes() for path in (tmp_path / "backup").iterdir())
    assert filled.secrets.master.encode() not in everything
    modes = {path.name: path.stat().st_mode & 0o077 for path in (tmp_path / "backup").iterdir()}
    assert [mode for name, mode in modes.items() if name != "manifest.json"] == [0]


def test_a_changed_backup_is_refused(filled: Project, tmp_path: Path):
    make_backup(filled, tmp_path / "backup")
    (file,) = [path for path in (tmp_path / "backup").iterdir() if path.name != "manifest.json"]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match="hash differs"):
        read_backup(tmp_path / "backup")
    (tmp_path / "backup" / "manifest.json").write_text(json.dumps({"rows": 1}))
    with pytest.raises(DataError, match="no backup"):
        read_backup(tmp_path / "backup")


def test_nothing_is_overwritten(filled: Project, tmp_path: Path):
    backup = make_backup(filled, tmp_path / "backup")
    with pytest.raises(ConfigError, match="exists"):
        make_backup(filled, tmp_path / "backup")
    with pytest.raises(ConfigError, match=r"nothing overwrites|tables already"):
        restore(backup, filled.folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"secrets\.json is missing"):
        restore(backup, tmp_path / "empty", None if filled.database.is_sqlite else "postgresql:///x")
    assert reasons(filled) == ["xylophone"]
