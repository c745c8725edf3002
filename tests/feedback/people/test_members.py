import threading

import pytest
from sqlalchemy import insert, select

from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.people import members
from plaudit.feedback.people.accounts import create_invite, create_token
from plaudit.feedback.people.members import RANKS, Role, set_role, set_state
from plaudit.feedback.store import tables
from plaudit.feedback.store.database import Database
from populate import add_member

ROLES: tuple[Role, ...] = ("labeler", "reviewer", "admin", "owner")


def may_change(actor: Role, before: Role, after: Role) -> bool:
    """The rule in words: admins manage reviewers and labelers, owners everybody."""
    return actor == "owner" or (actor == "admin" and {before, after} <= {"labeler", "reviewer"})


@pytest.mark.parametrize("actor", ROLES)
def test_who_may_change_whose_role_and_state_and_invite(sqlite_database: Database, actor: Role):
    with sqlite_database.write() as connection:
        add_member(connection, "Other", role="owner")
        by = add_member(connection, "Actor", role=actor)
        for before in ROLES:
            for after in ROLES:
                target = add_member(connection, f"{before}{after}", role=before)
                if may_change(actor, before, after):
                    set_role(connection, target, after, by=by)
                    assert members.member(connection, target).role == after
                else:
                    with pytest.raises(FeedbackError, match=r"Only an owner|Only admins"):
                        set_role(connection, target, after, by=by)
            if may_change(actor, before, before):
                set_state(connection, target, "paused", by=by)
                create_invite(connection, before, by=by)
            else:
                with pytest.raises(FeedbackError, match=r"Only an owner|Only admins"):
                    set_state(connection, target, "paused", by=by)
                with pytest.raises(FeedbackError, match=r"Only an owner|Only admins"):
                    create_invite(connection, before, by=by)


@pytest.mark.parametrize("state", ["paused", "removed"])
def test_who_is_paused_or_removed_decides_nothing(sqlite_database: Database, state: str):
    with sqlite_database.write() as connection:
        by = add_member(connection, "Olga", role="owner", state=state)
        target = add_member(connection, "Lea")
        with pytest.raises(FeedbackError, match="Only admins"):
            set_role(connection, target, "reviewer", by=by)


def test_the_last_owner_stays(database: Database):
    with database.write() as connection:
        first = add_member(connection, "Olga", role="owner")
        add_member(connection, "Paused", role="owner", state="paused")
        for change in (
            lambda: set_role(connection, first, "admin", by=first),
            lambda: set_state(connection, first, "removed", by=first),
            lambda: set_state(connection, first, "paused", by=first),
        ):
            with pytest.raises(FeedbackError, match="last owner"):
                change()
        second = add_member(connection, "Otto", role="owner")
        set_role(connection, first, "admin", by=first)
        with pytest.raises(FeedbackError, match="last owner"):
            set_role(connection, second, "admin", by=second)


def test_two_owners_who_remove_each_other_at_once(database: Database):
    with database.write() as connection:
        owners = [add_member(connection, name, role="owner") for name in ("Olga", "Otto")]
    start = threading.Barrier(2)
    outcomes: list[str] = []

    def remove(by: str, target: str) -> None:
        start.wait()
        try:
            with database.write() as connection:
                set_role(connection, target, "labeler", by=by)
            outcomes.append("done")
        except FeedbackError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=remove, args=pair) for pair in (owners, owners[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        roles = [account.role for account in members.members(connection)]
    assert sorted(roles) == ["labeler", "owner"]
    assert outcomes.count("done") == 1


def test_another_role_ends_sessions_and_removal_ends_tokens_too(database: Database):
    with database.write() as connection:
        owner, target = add_member(connection, "Olga", role="owner"), add_member(connection, "Lea")
        create_token(connection, target, "script", ["work"])

        def sign_in() -> None:
            values = {"token_hash": tables.new_id(), "created_at": 1, "seen_at": 1, "expires_at": 2}
            connection.execute(insert(tables.session).values(member_id=target, **values))

        def left() -> tuple[int, int]:
            sessions = connection.execute(select(tables.session)).all()
            good = connection.execute(select(tables.api_token).where(tables.api_token.c.revoked_at.is_(None))).all()
            return len(sessions), len(good)

        sign_in()
        set_role(connection, target, "labeler", by=owner)  # no change
        assert left() == (1, 1)
        set_role(connection, target, "reviewer", by=owner)
        assert left() == (0, 1)
        sign_in()
        set_state(connection, target, "removed", by=owner)
        assert left() == (0, 0)


def test_pseudonyms_are_distinct_and_say_the_kind(sqlite_database: Database):
    with sqlite_database.write() as connection:
        people = [members.add_member(connection, kind="person") for _ in range(50)]
        machine = members.add_member(connection, kind="ai")
        named = members.add_member(connection, kind="simulated", pseudonym="lazy")
        assert len({account.pseudonym for account in people}) == 50
        assert machine.pseudonym.startswith("AI-")
        assert named.pseudonym == "lazy"
        with pytest.raises(FeedbackError, match="lazy"):
            members.add_member(connection, kind="simulated", pseudonym="lazy")
        with pytest.raises(FeedbackError, match="no such member"):
            members.member(connection, "nobody")
        assert [account.kind for account in members.members(connection)].count("person") == 50


def test_ranks():
    assert sorted(ROLES, key=RANKS.__getitem__) == list(ROLES)
