"""A site for tests: a project in a folder, its people, and a browser without a window for each of them."""

import secrets
from hashlib import sha256
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import insert

import populate
from plaudit.feedback.store import clock, tables
from plaudit.feedback.store.project import Project, create_project
from plaudit.web.app import create_app

ORIGIN = "http://127.0.0.1"
ROLES = ("labeler", "reviewer", "admin", "owner")


class Site:
    """A served project with one member of each role, by name: "labeler", "reviewer", "admin", "owner", "other"."""

    def __init__(self, folder: Path) -> None:
        self.project: Project = create_project(folder, "Test project").project
        self.app: FastAPI = create_app(self.project)
        self.people: dict[str, str] = {}
        for name in (*ROLES, "other"):
            self.add_person(name, role=name if name in ROLES else "labeler")

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
