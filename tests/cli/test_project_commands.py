import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plaudit.cli import app as cli
from plaudit.feedback.people.accounts import find_invite
from plaudit.feedback.project import open_project


def plaudit(*arguments: str, code: int = 0) -> Result:
    result = CliRunner(env={"COLUMNS": "250"}).invoke(cli.app, arguments)
    assert result.exit_code == code, result.output
    return result


def test_init_gives_a_link_that_makes_the_owner(tmp_path: Path):
    folder = tmp_path / "fruits"
    said = plaudit("init", str(folder)).stdout
    found = re.search(r"http://127\.0\.0\.1:8021/invite/(\S+)", said)
    assert found is not None
    with closing(open_project(folder)) as project, project.database.read() as connection:
        assert project.name == "fruits"
        assert find_invite(connection, found[1]).role == "owner"
    assert "holds a project already" in plaudit("init", str(folder), code=2).stderr


def test_init_for_scripts(tmp_path: Path):
    data = json.loads(plaudit("init", f"dir={tmp_path / 'p'}", "name=Fruit salad", "--json").stdout)
    assert data["invite_path"].startswith("/invite/")
    with closing(open_project(tmp_path / "p")) as project:
        assert project.name == "Fruit salad"


def test_backup_restore_and_verify(tmp_path: Path):
    folder, copy, other = tmp_path / "p", tmp_path / "backup", tmp_path / "restored"
    plaudit("init", str(folder))
    assert "0 submissions" in plaudit("backup", str(folder), str(copy)).stdout
    other.mkdir()
    assert "secrets.json is missing" in plaudit("restore", str(copy), str(other), code=2).stderr
    (other / "secrets.json").touch(0o600)
    (other / "secrets.json").write_text((folder / "secrets.json").read_text())
    assert "Everybody signs in anew" in plaudit("restore", str(copy), str(other)).stdout
    said = plaudit("verify", str(other)).stdout
    assert "fault" not in said
    assert "4 audit events" in said
    assert "at version" in plaudit("migrate", str(other)).stdout


def test_verify_finds_and_exits_with_one(tmp_path: Path):
    plaudit("init", str(tmp_path / "p"))
    with closing(open_project(tmp_path / "p")) as project, project.database.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER audit_event_no_update")
        connection.exec_driver_sql("UPDATE audit_event SET action = 'nothing' WHERE seq = 1")
    assert "audit_event_no_update" in plaudit("verify", str(tmp_path / "p"), code=2).stderr
    plaudit("migrate", str(tmp_path / "p"))
    assert "event 1 was changed" in plaudit("verify", str(tmp_path / "p"), code=1).stdout


@pytest.mark.parametrize("command", ["migrate", "verify"])
def test_other_folders_are_refused(tmp_path: Path, command: str):
    assert "is missing" in plaudit(command, str(tmp_path), code=2).stderr
