"""`plaudit init`, `migrate`, `backup`, `restore`, `verify`: the life of a labeling project's folder."""

from pathlib import Path

from pydantic import Field
from rich.text import Text

from plaudit.cli.command import EXIT_FINDINGS, Command, Outcome
from plaudit.core.config import Config

PANEL = "Collect judgments"


class InitConfig(Config):
    """Settings of `plaudit init`."""

    dir: Path = Field(description="New folder for the project.")
    name: str | None = Field(None, description="Name that people see; null takes that of the folder.")
    database: str | None = Field(
        None, description="Empty PostgreSQL database: postgresql+psycopg://user@host/name; null makes a SQLite file."
    )


class ProjectConfig(Config):
    """Settings of `plaudit migrate` and `plaudit verify`."""

    dir: Path = Field(description="Folder of the project.")


class BackupConfig(Config):
    """Settings of `plaudit backup`."""

    dir: Path = Field(description="Folder of the project.")
    to: Path = Field(description="New folder for the backup.")


class RestoreConfig(Config):
    """Settings of `plaudit restore`."""

    backup: Path = Field(description="Folder of the backup.")
    dir: Path = Field(description="Folder with the project's secrets.json and erasures.jsonl, and no database.")
    database: str | None = Field(None, description="Empty PostgreSQL database, for a backup of one.")


def _init(config: InitConfig) -> Outcome:
    from plaudit.cli.label import LabelConfig
    from plaudit.feedback.project import create_project

    created = create_project(config.dir, config.name or config.dir.resolve().name, config.database)
    created.project.close()
    port = LabelConfig.model_validate({"dir": config.dir}).port
    text = (
        f"Made the project in {config.dir}.\n"
        f"1. Serve it:          plaudit label {config.dir}\n"
        f"2. Become its owner:  http://127.0.0.1:{port}{created.invite_path}\n"
        "The link works once, within seven days. Keep a copy of secrets.json in a safe place: backups do not hold it."
    )
    return Outcome({"dir": str(config.dir), "invite_path": created.invite_path}, text)


def _migrate(config: ProjectConfig) -> Outcome:
    from plaudit.feedback.project import upgrade_project
    from plaudit.feedback.store.migrate import newest_version

    before = upgrade_project(config.dir)
    after = newest_version()
    changed = f"from version {before} to {after}" if before != after else f"at version {after} already"
    return Outcome({"before": before, "after": after}, f"{config.dir}: {changed}; all triggers are in place.")


def _backup(config: BackupConfig) -> Outcome:
    from plaudit.feedback.project import open_project
    from plaudit.feedback.upkeep.backup import make_backup

    project = open_project(config.dir)
    try:
        backup = make_backup(project, config.to)
    finally:
        project.close()
    text = (
        f"Backed up {backup.submissions} submissions and {backup.events} audit events to {config.to}.\n"
        f"Head of the audit log: {backup.audit_head}\n"
        "secrets.json is not in it: keep a copy elsewhere, or nobody can restore this."
    )
    return Outcome(backup._asdict(), text)


def _restore(config: RestoreConfig) -> Outcome:
    from plaudit.feedback.upkeep.backup import read_backup, restore

    backup = read_backup(config.backup)
    project, erased = restore(backup, config.dir, config.database)
    project.close()
    text = (
        f"Restored {backup.submissions} submissions to {config.dir}.\n"
        f"Erased again: {erased.texts + erased.demonstrations} texts, {erased.accounts} accounts.\n"
        "Everybody signs in anew; tokens and open invitations have ended.\n"
        "Look through the members: whoever was removed after the backup was made is a member again."
    )
    return Outcome(backup._asdict() | {"erased": erased._asdict()}, text)


def _verify(config: ProjectConfig) -> Outcome:
    from plaudit.feedback.project import open_project
    from plaudit.feedback.upkeep.verify import verify

    project = open_project(config.dir)
    try:
        verdict = verify(project)
    finally:
        project.close()
    text = Text()
    for check, faults in verdict.faults.items():
        text.append(f"{'fault' if faults else 'ok':<6}", style="bold red" if faults else "green").append(f"{check}\n")
        for fault in faults:
            text.append(f"      {fault}\n")
    text.append(f"{verdict.audit_events} audit events, head {verdict.audit_head}")
    return Outcome(verdict._asdict(), text, 0 if verdict.is_sound else EXIT_FINDINGS)


INIT = Command(
    "init",
    "Make a labeling project: a folder with a database, generated secrets and an invitation for its owner.",
    ("plaudit init my-project", "plaudit init my-project name='Fruit salad' database=postgresql+psycopg://me@db/fruit"),
    lambda: InitConfig,
    _init,
    PANEL,
    words=("dir",),
)
MIGRATE = Command(
    "migrate",
    "Bring a project's database to the version of this Plaudit.",
    ("plaudit migrate my-project",),
    lambda: ProjectConfig,
    _migrate,
    PANEL,
    words=("dir",),
)
BACKUP = Command(
    "backup",
    "Copy a project's database and snapshots to a folder, while people go on working.",
    ("plaudit backup my-project backups/2026-03-01",),
    lambda: BackupConfig,
    _backup,
    PANEL,
    words=("dir", "to"),
)
RESTORE = Command(
    "restore",
    "Put a backup back, without what was erased since.",
    ("plaudit restore backups/2026-03-01 my-project",),
    lambda: RestoreConfig,
    _restore,
    PANEL,
    words=("backup", "dir"),
)
VERIFY = Command(
    "verify",
    "Check a project: audit log, constraints, texts and the files of its snapshots.",
    ("plaudit verify my-project",),
    lambda: ProjectConfig,
    _verify,
    PANEL,
    words=("dir",),
)
