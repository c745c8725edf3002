import json
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select, text

from databases import Cluster
from plaudit.core.errors import ConfigError
from plaudit.feedback import audit_log
from plaudit.feedback import project as projects
from plaudit.feedback.people.accounts import accept_invite, find_invite
from plaudit.feedback.project import Project, create_project, open_project
from plaudit.feedback.settings import ProjectSettings
from plaudit.feedback.store import tables
from plaudit.feedback.store.secrets import read_secrets


def made(folder: Path) -> None:
    create_project(folder, "Fruits").project.close()


def test_a_new_project_has_secrets_an_owner_to_be_and_no_password(tmp_path: Path):
    created = create_project(tmp_path / "p", "Fruits")
    created.project.close()
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "p").iterdir()} == {
        "plaudit.db": 0o600,
        "plaudit.toml": 0o644,
        "secrets.json": 0o600,
    }
    with closing(open_project(tmp_path / "p")) as project:
        assert (project.name, project.settings()) == ("Fruits", ProjectSettings.model_validate({}))
        with project.database.read() as connection:
            assert connection.execute(select(tables.member)).all() == []
            assert find_invite(connection, created.invite_path.removeprefix("/invite/")).role == "owner"
            assert audit_log.verify(connection).events == 2


@pytest.mark.usefixtures("fast_passwords")
def test_the_first_owner_joins_by_the_link(tmp_path: Path):
    created = create_project(tmp_path / "p", "Fruits")
    token = created.invite_path.removeprefix("/invite/")
    with closing(created.project) as project:
        form = {"email": "o@example.org", "display_name": "Olga", "password": "correct horse battery"}
        assert accept_invite(project.database, token, **form).role == "owner"


def test_a_project_can_be_moved(tmp_path: Path):
    made(tmp_path / "p")
    (tmp_path / "p").rename(tmp_path / "q")
    with closing(open_project(tmp_path / "q")) as project:
        assert project.database.url.database == str((tmp_path / "q" / "plaudit.db").resolve())


def test_a_project_on_postgresql_keeps_its_password_apart(postgresql_cluster: Cluster, tmp_path: Path):
    name = postgresql_cluster.create()
    address = f"postgresql://postgres:tig%40ers@/{name}?host={postgresql_cluster.folder}"
    created = create_project(tmp_path / "p", "Fruits", address)
    created.project.close()
    shown = (tmp_path / "p" / "plaudit.toml").read_text()
    assert "tig" not in shown
    assert name in shown
    assert read_secrets(tmp_path / "p").database_password == "tig@ers"
    with closing(open_project(tmp_path / "p")) as project:
        assert project.database.url.password == "tig@ers"
        assert not project.database.is_sqlite
    with pytest.raises(ConfigError, match="tables already"):
        create_project(tmp_path / "q", "Fruits", address)
    assert list((tmp_path / "q").iterdir()) == []  # nothing is in the way of the next try
    postgresql_cluster.drop(name)


def test_what_is_refused_when_making_one(tmp_path: Path):
    made(tmp_path / "p")
    with pytest.raises(ConfigError, match="holds a project already"):
        create_project(tmp_path / "p", "Fruits")
    with pytest.raises(ConfigError, match="visible characters"):
        create_project(tmp_path / "q", " ")
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "plaudit.db").write_text("something of somebody")
    with pytest.raises(ConfigError, match="in the way"):
        create_project(tmp_path / "r", "Fruits")
    assert (tmp_path / "r" / "plaudit.db").read_text() == "something of somebody"


@pytest.mark.parametrize(
    ("master", "message"),
    [
        ("", "no random key"),
        ("secret", "no random key"),
        ("0" * 64, "no random key"),
        ("01" * 32, "no random key"),
        (None, "no random key"),
        (1234, "no random key"),
    ],
)
def test_weak_secrets_are_refused(tmp_path: Path, master: object, message: str):
    made(tmp_path)
    (tmp_path / "secrets.json").write_text(json.dumps({"master": master}))
    with pytest.raises(ConfigError, match=message):
        open_project(tmp_path)


def test_missing_open_and_broken_secrets_are_refused(tmp_path: Path):
    made(tmp_path)
    path = tmp_path / "secrets.json"
    for mode in (0o640, 0o604, 0o644):
        path.chmod(mode)
        with pytest.raises(ConfigError, match="chmod 600"):
            open_project(tmp_path)
    path.chmod(0o600)
    path.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        open_project(tmp_path)
    path.unlink()
    with pytest.raises(ConfigError, match="is missing"):
        open_project(tmp_path)


def test_no_project_is_made_or_guessed_when_opening(tmp_path: Path):
    with pytest.raises(ConfigError, match="plaudit init"):
        open_project(tmp_path)
    made(tmp_path / "p")
    (tmp_path / "p" / "plaudit.db").unlink()
    with pytest.raises(ConfigError, match="plaudit init"):
        open_project(tmp_path / "p")
    (tmp_path / "p" / projects.FILE).write_text("data = 1")
    with pytest.raises(ConfigError, match="cannot be read"):
        open_project(tmp_path / "p")


def test_keys_for_different_purposes_differ_and_stay(tmp_path: Path):
    made(tmp_path)
    secrets = read_secrets(tmp_path)
    assert secrets.key("a") != secrets.key("b")
    assert secrets.key("a") == read_secrets(tmp_path).key("a")
    assert secrets.master not in repr(secrets)


def test_settings_are_kept_and_their_changes_named(project: Project):
    settings = ProjectSettings.model_validate({"contact": "Olga, room 5", "smallest_group": 7})
    project.save_settings(settings, by=None)
    assert project.settings() == settings
    with project.database.read() as connection:
        assert audit_log.events(connection)[0].detail == {"changed": ["contact", "smallest_group"]}
        assert connection.execute(text("SELECT count(*) FROM project")).scalar() == 1


@pytest.mark.parametrize(
    ("address", "same"),
    [("203.0.113.7", "203.0.113.7"), ("2001:db8::1", "2001:db8::ffff:1"), ("testclient", "testclient")],
)
def test_addresses_are_hashed_and_networks_of_one_person_are_one(project: Project, address: str, same: str):
    assert project.address_key(address) == project.address_key(same)
    assert address not in project.address_key(address)
    assert project.address_key(address) != project.address_key("203.0.113.8")
    assert project.address_key("2001:db8:0:1::1") != project.address_key("2001:db8::1")
