import hashlib
import json
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import func, select, update

from plaudit.feedback import audit_log
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.people import accounts, members, passwords
from plaudit.feedback.people.accounts import (
    BY_ADDRESS,
    BY_PAIR,
    SESSION_IDLE,
    SESSION_LIFE,
    accept_invite,
    change_password,
    create_invite,
    create_token,
    find_invite,
    is_session_due,
    keep_session,
    session_account,
    sign_in,
    sign_out,
    token_account,
)
from plaudit.feedback.people.members import Account, Role
from plaudit.feedback.store import clock, tables
from plaudit.feedback.store.database import Database
from populate import add_batch, add_guideline

pytestmark = pytest.mark.usefixtures("fast_passwords")

PASSWORD = "correct horse battery"
T = 1_700_000_000_000


def join(database: Database, name: str = "Ada", role: Role = "labeler") -> Account:
    with database.write() as connection:
        token = create_invite(connection, role, by=None)
    return accept_invite(database, token, email=f"{name}@Example.org", display_name=f"{name} L.", password=PASSWORD)


def enter(database: Database, name: str = "ada", password: str = PASSWORD, address: str = "here") -> str:
    return sign_in(database, f"{name}@example.org", password, address_key=address)


def who(database: Database, token: str) -> str | None:
    with database.read() as connection:
        account = session_account(connection, token)
        return account.id if account else None


def refused(code: str, action: Callable[[], object]) -> FeedbackError:
    with pytest.raises(FeedbackError) as error:
        action()
    assert error.value.code == code
    return error.value


def test_an_invited_person_joins_signs_in_and_out(database: Database):
    ada = join(database)
    assert (ada.role, ada.state, ada.email) == ("labeler", "qualified", "ada@example.org")
    assert ada.pseudonym.startswith("L-")
    token = enter(database, " ADA")
    assert who(database, token) == ada.id
    assert who(database, token + "x") is None
    with database.write() as connection:
        sign_out(connection, token)
    assert who(database, token) is None


def test_an_invitation_is_used_once_and_ends(database: Database):
    with clock.at(T), database.write() as connection:
        token = create_invite(connection, "reviewer", by=None, ttl_ms=1000)
    form = {"display_name": "Bo", "password": PASSWORD}
    with clock.at(T + 1000):
        refused("bad_invite", lambda: accept_invite(database, token, email="b@x.org", **form))
    with clock.at(T + 999):
        refused("bad_invite", lambda: accept_invite(database, "guess", email="b@x.org", **form))
        assert accept_invite(database, token, email="b@x.org", **form).role == "reviewer"
        refused("bad_invite", lambda: accept_invite(database, token, email="c@x.org", **form))
    with database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(tables.member)) == 1
        assert connection.scalar(select(tables.invite.c.used_at)) == T + 999


def test_two_people_with_one_invitation(database: Database):
    with database.write() as connection:
        token = create_invite(connection, "labeler", by=None)
    outcomes: list[str] = []

    def join_as(email: str) -> None:
        try:
            accept_invite(database, token, email=email, display_name="X", password=PASSWORD)
            outcomes.append("joined")
        except FeedbackError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=join_as, args=(f"p{n}@x.org",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["bad_invite"] * 3 + ["joined"]


def test_a_cancelled_invitation_is_of_no_use(database: Database):
    owner = join(database, role="owner")
    with database.write() as connection:
        token = create_invite(connection, "labeler", by=owner.id)
        accounts.cancel_invite(connection, find_invite(connection, token).id, by=owner.id)
    with database.read() as connection:
        refused("bad_invite", lambda: find_invite(connection, token))


@pytest.mark.parametrize(
    ("code", "form"),
    [
        ("bad_email", {"email": "nobody"}),
        ("bad_email", {"email": "a@b\u202e.org"}),
        ("bad_name", {"display_name": "  "}),
        ("bad_name", {"display_name": "x\u200by"}),
        ("weak_password", {"password": "short"}),
        ("weak_password", {"password": "aaaaaaaaaaaaaaaa"}),
        ("weak_password", {"password": "charlotte-is-it", "display_name": "Charlotte"}),
        ("weak_password", {"password": "x" * 201}),
        ("email_taken", {"email": "ADA@example.org"}),
    ],
)
def test_what_is_refused_when_joining(sqlite_database: Database, code: str, form: dict[str, str]):
    join(sqlite_database)
    with sqlite_database.write() as connection:
        token = create_invite(connection, "labeler", by=None)
    full = {"email": "new@example.org", "display_name": "New", "password": PASSWORD} | form
    refused(code, lambda: accept_invite(sqlite_database, token, **full))
    with sqlite_database.read() as connection:
        find_invite(connection, token)  # still good for another try


def test_labelers_train_first_where_training_runs(database: Database):
    with database.write() as connection:
        batch = add_batch(connection, add_guideline(connection), status="draft", purpose="training")
    assert join(database, "Ada").state == "qualified"
    with database.write() as connection:
        connection.execute(update(tables.batch).where(tables.batch.c.id == batch).values(status="running"))
    assert join(database, "Bea").state == "training"
    assert join(database, "Cid", "reviewer").state == "qualified"


def test_unknown_people_and_wrong_passwords_look_and_cost_the_same(database: Database, monkeypatch: pytest.MonkeyPatch):
    join(database)
    gone = join(database, "Gone")
    with database.write() as connection:
        members.set_state(connection, gone.id, "removed", by=None)
    work: list[str] = []
    verify = passwords.hasher.verify

    class Counting:
        def verify(self, digest: str, password: str) -> bool:
            work.append(digest.split("$")[3])  # the cost parameters
            return verify(digest, password)

        hash = passwords.hasher.hash

    monkeypatch.setattr(passwords, "hasher", Counting())
    passwords.nobodys_hash()
    errors = [
        refused("wrong_credentials", lambda: enter(database, "ada", "wrong horse battery")),
        refused("wrong_credentials", lambda: enter(database, "nobody")),
        refused("wrong_credentials", lambda: enter(database, "gone")),
    ]
    assert len({(str(error), error.status) for error in errors}) == 1
    assert len(work) == 3
    assert len(set(work)) == 1


def test_a_stolen_dump_cannot_sign_in(database: Database):
    ada = join(database)
    session = enter(database)
    with database.write() as connection:
        key = create_token(connection, ada.id, "script", ["work"])
        invite = create_invite(connection, "owner", by=None)
    dump: list[str] = []
    with database.read() as connection:
        for table in tables.metadata.sorted_tables:
            dump += [json.dumps(list(row), default=str) for row in connection.execute(select(table))]
        text = "\n".join(dump)
        for secret in (session, key, invite, PASSWORD):
            assert secret not in text
        stored = connection.execute(select(tables.session.c.token_hash)).scalars().all()
        stored += connection.execute(select(tables.api_token.c.token_hash)).scalars().all()
        stored += connection.execute(select(tables.invite.c.token_hash)).scalars().all()
        password_hash = connection.scalar(select(tables.member.c.password_hash))
        assert len(stored) == 4
        for value in stored:
            assert session_account(connection, value) is None
            assert token_account(connection, value) is None
            refused("bad_invite", lambda value=value: find_invite(connection, value))
    assert password_hash is not None
    assert password_hash.startswith("$argon2id$")
    refused("wrong_credentials", lambda: enter(database, password=password_hash))


def test_a_session_from_before_signing_in_is_worth_nothing(database: Database):
    """Fixation: an attacker plants a token; signing in never adopts one, it makes its own."""
    join(database)
    planted = "a" * 43
    first, second = enter(database), enter(database)
    assert len({planted, first, second}) == 3
    assert who(database, planted) is None


def test_sessions_end_idle_and_absolutely(database: Database):
    with clock.at(T):
        ada = join(database)
        token = enter(database)
    with clock.at(T + SESSION_IDLE - 1):
        assert who(database, token) == ada.id
    with clock.at(T + SESSION_IDLE):
        assert who(database, token) is None
    at = T
    while at < T + SESSION_LIFE - SESSION_IDLE:
        at += SESSION_IDLE - 1
        with clock.at(at):
            assert who(database, token) == ada.id
            keep_session(database, token)
    with clock.at(T + SESSION_LIFE - 1):
        assert who(database, token) == ada.id
    with clock.at(T + SESSION_LIFE):
        assert who(database, token) is None
        enter(database)
        with database.read() as connection:
            assert connection.scalar(select(func.count()).select_from(tables.session)) == 1  # the old one is deleted


def test_the_use_of_a_session_is_noted_every_five_minutes(database: Database):
    def due(at: int) -> bool:
        with clock.at(at), database.read() as connection:
            return is_session_due(connection, token)

    with clock.at(T):
        join(database)
        token = enter(database)
    later = T + 5 * clock.MINUTE
    assert [due(later - 1), due(later)] == [False, True]
    with clock.at(later):
        keep_session(database, token)
    assert not due(later)
    with database.read() as connection:
        assert not is_session_due(connection, "unknown")


def test_another_password_ends_the_other_sessions(database: Database):
    ada = join(database)
    old = [enter(database), enter(database)]
    wrong = "wrong horse battery"
    refused("wrong_credentials", lambda: change_password(database, ada.id, wrong, "new horse battery", address_key="h"))
    assert who(database, old[0]) == ada.id
    token = change_password(database, ada.id, PASSWORD, "new horse battery", address_key="h")
    assert [who(database, one) for one in [*old, token]] == [None, None, ada.id]
    refused("wrong_credentials", lambda: enter(database))
    enter(database, password="new horse battery")


def test_members_see_and_end_their_own_sessions_only(database: Database):
    ada, bea = join(database, "Ada"), join(database, "Bea")
    tokens = [enter(database, "ada"), enter(database, "bea")]
    with database.write() as connection:
        (mine,) = accounts.sessions(connection, ada.id)
        accounts.end_session(connection, bea.id, mine.handle)
        assert session_account(connection, tokens[0])
        accounts.end_session(connection, ada.id, mine.handle)
    assert [who(database, token) for token in tokens] == [None, bea.id]


def test_guessing_is_slowed_down_and_the_owner_still_gets_in(database: Database):
    join(database)
    with clock.at(T):
        for _ in range(BY_PAIR.hits):
            refused("wrong_credentials", lambda: enter(database, password="wrong horse battery", address="bad"))
        error = refused("throttled", lambda: enter(database, address="bad"))  # the right one, too late
        assert (error.status, getattr(error, "retry_after", None)) == (429, BY_PAIR.window_ms // 1000)
        enter(database, address="home")
    with clock.at(T + BY_PAIR.window_ms):
        enter(database, address="bad")


def test_a_thousand_tries_leave_a_bounded_trace(database: Database):
    outcomes: list[str] = []
    with clock.at(T):
        for number in range(1000):
            with pytest.raises(FeedbackError) as error:
                enter(database, f"guess{number}", address="bad")
            outcomes.append(error.value.code)
        assert outcomes == ["wrong_credentials"] * BY_ADDRESS.hits + ["throttled"] * (1000 - BY_ADDRESS.hits)
    buckets = select(func.count()).select_from(tables.throttle)
    with database.read() as connection:
        assert (connection.scalar(buckets) or 0) <= 2 * BY_ADDRESS.hits + 1
    with clock.at(T + BY_ADDRESS.window_ms), pytest.raises(FeedbackError):
        enter(database, "later", address="other")
    with database.read() as connection:
        assert connection.scalar(buckets) == 3  # what nobody asks for any more is gone


def test_hashing_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """64 MiB each: a hundred sign-ins at once must not take them all at the same moment."""
    now, most, lock, go = 0, 0, threading.Lock(), threading.Event()

    class Slow:
        def hash(self, _password: str) -> str:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            go.wait(0.02)
            with lock:
                now -= 1
            return "hash"

    monkeypatch.setattr(passwords, "hasher", Slow())
    threads = [threading.Thread(target=passwords.hash_password, args=("x",)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == passwords.AT_ONCE


def test_a_stronger_hash_replaces_a_weaker_one_at_sign_in(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch):
    join(sqlite_database)
    monkeypatch.setattr(passwords, "hasher", type(passwords.hasher)(time_cost=2, memory_cost=16, parallelism=1))
    enter(sqlite_database)
    with sqlite_database.read() as connection:
        assert "m=16,t=2" in (connection.scalar(select(tables.member.c.password_hash)) or "")
    enter(sqlite_database)


def test_passwords_typed_on_other_keyboards():
    digest = passwords.hash_password("grüße aus köln")
    assert passwords.verify_password(digest, "gru\u0308ße aus ko\u0308ln")
    assert not passwords.verify_password(digest, "grusse aus koln")


def test_tokens_do_what_their_scopes_and_their_owner_may(database: Database):
    admin = join(database, "Ada", "admin")
    owner, labeler = join(database, "Olga", "owner"), join(database, "Lea")
    with clock.at(T), database.write() as connection:
        key = create_token(connection, admin.id, "script", ["work", "manage"], T + 1000)
        refused("bad_scopes", lambda: create_token(connection, admin.id, "x", []))
        refused("bad_scopes", lambda: create_token(connection, labeler.id, "x", ["manage"]))

    def scopes() -> set[str] | None:
        with database.read() as connection:
            found = token_account(connection, key)
            return None if found is None else set(found[1])

    with clock.at(T + 999):
        assert scopes() == {"work", "manage"}
    with clock.at(T + 1000):
        assert scopes() is None
    with clock.at(T):
        with database.write() as connection:
            members.set_role(connection, admin.id, "labeler", by=owner.id)
        assert scopes() == {"work"}  # demoted: the token cannot do more than its owner
        with database.write() as connection:
            (token,) = accounts.tokens(connection, admin.id)
            accounts.revoke_token(connection, owner.id, token.id)  # not theirs: nothing happens
        assert scopes() == {"work"}
        with database.write() as connection:
            accounts.revoke_token(connection, admin.id, token.id)
        assert scopes() is None


def test_what_happened_is_in_the_audit_log_without_secrets(database: Database):
    nyx = join(database, "Nyx")  # a name that no hexadecimal id or hash can hold by chance
    enter(database, "nyx")
    with database.read() as connection:
        log = audit_log.events(connection)
        assert [event.action for event in log] == ["member.join", "invite.create"]
        assert log[0].member_id == nyx.id
        assert "nyx" not in json.dumps([event._asdict() for event in log]).lower()


def test_the_address_is_not_in_the_database(database: Database):
    with pytest.raises(FeedbackError):
        enter(database, "someone", address="k")
    with database.read() as connection:
        buckets = connection.execute(select(tables.throttle.c.bucket)).scalars().all()
    assert not any("someone" in bucket for bucket in buckets)
    assert any(hashlib.sha256(b"someone@example.org").hexdigest()[:40] in bucket for bucket in buckets)
