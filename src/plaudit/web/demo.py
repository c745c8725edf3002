"""Doors into the demo: links that sign in as one of its people with one click. A real project has none."""

import secrets
from dataclasses import dataclass, field

from plaudit.feedback.people import accounts, members
from plaudit.feedback.people.members import Role
from plaudit.feedback.project import Project


@dataclass(frozen=True)
class Door:
    """A person of the demo, and what signs them in."""

    label: str
    email: str
    password: str = field(repr=False)


def make_doors(project: Project) -> dict[str, Door]:
    """People to look at a project through, by the token of their link: `/enter/TOKEN`."""
    people: tuple[tuple[Role, str, bool], ...] = (
        ("owner", "Owner, who sees everything", True),
        ("reviewer", "Reviewer, with the queue of disagreements", True),
        ("labeler", "Labeler at work", True),
        ("labeler", "New labeler, who begins with the training", False),
    )
    return {secrets.token_urlsafe(16): _person(project, *person) for person in people}


def _person(project: Project, role: Role, label: str, qualified: bool) -> Door:
    door = Door(label, f"{secrets.token_hex(4)}@demo.example", secrets.token_urlsafe(16))
    with project.database.write() as connection:
        invite = accounts.create_invite(connection, role, by=None, note="demo")
    account = accounts.accept_invite(
        project.database, invite, email=door.email, display_name=label.split(",")[0], password=door.password
    )
    if qualified:
        with project.database.write() as connection:
            members.set_state(connection, account.id, "qualified", by=None)
    return door
