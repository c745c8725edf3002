"""A site for tests: a project in a folder, its people, and a browser without a window for each of them."""

import secrets
from hashlib import sha256
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Connection, insert

import populate
from plaudit.core.records import Message
from plaudit.feedback.content import content
from plaudit.feedback.people import members
from plaudit.feedback.project import Project, create_project, open_project
from plaudit.feedback.store import clock, tables
from plaudit.feedback.tasks import guidelines
from plaudit.feedback.tasks.batches import BatchConfig, Kind, Purpose, create_batch, list_batches, set_status
from plaudit.feedback.tasks.expected import Constraint, Expected
from plaudit.feedback.tasks.guidelines import Flag
from plaudit.feedback.tasks.tasks import NewGold, NewTask, add_tasks
from plaudit.web.app import create_app

ORIGIN = "http://127.0.0.1"
ROLES = ("labeler", "reviewer", "admin", "owner")


class Site:
    """A served project with one member of each role, by name: "labeler", "reviewer", "admin", "owner", "other"."""

    def __init__(self, folder: Path) -> None:
        self.project: Project = open_project(folder)
        self.app: FastAPI = create_app(self.project)
        with self.project.database.read() as connection:
            self.people = {person.display_name or "": person.id for person in members.members(connection)}
            self.batches = {one.name: one.id for one in list_batches(connection)}

    def add_person(self, name: str, **columns: str) -> str:
        with self.project.database.write() as connection:
            self.people[name] = populate.add_member(connection, name, **columns)
        return self.people[name]

    def session(self, name: str) -> str:
        """The token of a new session, without the costly password."""
        token = secrets.token_urlsafe(32)
        now = clock.now()
        with self.project.database.write() as connection:
            connection.execute(
                insert(tables.session).values(
                    token_hash=sha256(token.encode()).hexdigest(),
                    member_id=self.people[name],
                    created_at=now,
                    seen_at=now,
                    expires_at=now + clock.DAY,
                )
            )
        return token

    @property
    def cookie(self) -> str:
        return self.app.state.site.cookie

    def client(self, name: str | None = None) -> TestClient:
        """A browser, signed in as that person if one is named."""
        client = TestClient(
            self.app,
            base_url=ORIGIN,
            headers={"Sec-Fetch-Site": "same-origin"},
            follow_redirects=False,
            raise_server_exceptions=False,
        )
        if name is not None:
            client.cookies.set(self.cookie, self.session(name))
        return client


GUIDELINES = """# What a good answer is

Judge **what the person asked for**, not how long or how polished an answer is.

## In this order

1. *Harmless*: nothing that hurts somebody.
2. *True*: nothing made up.
3. *Helpful*: it does what was asked, and no more.

## Ties

Equal answers get the same rank. A short right answer and a long right answer are equal.
"""
FLAGS = (
    Flag("untrue", "Says something untrue", "Also a made-up source."),
    Flag("off_topic", "Does not answer", ""),
    Flag("harmful", "Could hurt somebody", "See the guidelines, first point."),
)
QUESTION = "How do I get a red wine stain out of a white cotton shirt? I only have things from the kitchen."
ANSWERS = (
    "Blot it, do not rub. Then pour **salt** on it, wait five minutes, rinse with cold water, and repeat. "
    "What is left goes with a paste of baking soda and water.\n\n1. Blot\n2. Salt, five minutes\n3. Cold water\n"
    "4. Baking soda paste, an hour\n5. Wash as usual",
    "Red wine contains anthocyanins. Historically, wine was already made in Georgia 8,000 years ago. Stains are a "
    "very common problem in households and there are many opinions about them.",
    "Use chlorine bleach mixed with vinegar, that is strongest.",
    "Salt, then cold water, then baking soda. Do not use hot water: it sets the stain.",
)
CHAT = (
    Message("system", "You are a careful assistant of a library."),
    Message("user", "I need a book about bees for a child of seven."),
    Message("assistant", "Do you want a story or facts?"),
    Message("user", "Facts, with many pictures please."),
)


def prepare(folder: Path) -> None:
    """A project with people, guidelines and a running batch of each kind."""
    project = create_project(folder, "Test project").project
    with project.database.write() as c:
        for name in (*ROLES, "other"):
            populate.add_member(c, name, role=name if name in ROLES else "labeler")
        guidelines.save_draft(c, "# What a good answer is\n\nJudge what the person asked for.\n", FLAGS[:1], by=None)
        guidelines.publish(c, by=None)
        guidelines.save_draft(c, GUIDELINES, FLAGS, by=None)
        guidelines.publish(c, by=None)
        origin = content.add_origin(c, "model", "a model", {"checkpoint": "0" * 64})
        _add_batch(c, origin, "Household questions", "ranking", "work", count=6)
        _add_batch(c, origin, "Write for the library", "demonstration", "work", count=3)
        _add_batch(c, origin, "First steps", "ranking", "training", count=2)
        _add_batch(c, origin, "Entry test", "ranking", "qualification", count=2)
    project.close()


def _add_batch(c: Connection, origin: str, name: str, kind: Kind, purpose: Purpose, *, count: int) -> None:
    batch_id = create_batch(c, name, kind, purpose, BatchConfig(overlap=3, reason_required=False), by=None)
    items: list[NewTask] = []
    for number in range(count):
        words = f"{QUESTION} ({name}, {number + 1})" if kind == "ranking" and number % 2 == 0 else None
        chat = (Message("user", words),) if words else (*CHAT[:-1], Message("user", f"{CHAT[-1].content} {number}"))
        prompt = content.add_prompts(c, [content.NewPrompt(chat, origin)]).ids[0]
        ids = [] if kind == "demonstration" else content.add_responses(c, prompt, ANSWERS, origin)
        gold = None
        if purpose != "work":
            order = Constraint(better=ids[0], worse=ids[1]), Constraint(better=ids[3], worse=ids[2])
            gold = NewGold(Expected(constraints=order), "**Bleach and vinegar** make a toxic gas.")
        items.append(NewTask(prompt, tuple(ids), gold=gold))
    add_tasks(c, batch_id, items)
    set_status(c, batch_id, "running", by=None)
