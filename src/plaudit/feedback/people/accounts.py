"""How people get in: invitations, sign-in, sessions, and tokens for programs.

Every secret here is 256 random bits, given out once and stored as its SHA-256: a copy of the database signs nobody in.
Functions that hash a password take the database and not a connection, because that must not happen in a transaction.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sqlalchemy import Connection, bindparam, delete, exists, insert, select, update

from plaudit.feedback import audit_log
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.people import passwords
from plaudit.feedback.people.members import (
    Account,
    Role,
    account_of,
    add_member,
    check_may_appoint,
    end_sessions,
    member,
)
from plaudit.feedback.people.throttle import Limit, forget, hit
from plaudit.feedback.store import clock, tables
from plaudit.feedback.store.database import Database

Scope = Literal["work", "review", "manage"]
SCOPES: Mapping[Role, frozenset[Scope]] = {  # that a token of a member with this role can have
    "labeler": frozenset(("work",)),
    "reviewer": frozenset(("work", "review")),
    "admin": frozenset(("work", "review", "manage")),
    "owner": frozenset(("work", "review", "manage")),
}

INVITE_TTL = 7 * clock.DAY
SESSION_IDLE = 12 * clock.HOUR
SESSION_LIFE = 14 * clock.DAY
_SEEN_EVERY = 5 * clock.MINUTE  # how exactly a session knows when it was last used: a write costs more than a read

_WINDOW = 15 * clock.MINUTE
BY_ADDRESS = Limit("sign-in-address", 50, _WINDOW)
BY_PAIR = Limit("sign-in-pair", 10, _WINDOW)  # one account from one address
BY_ACCOUNT = Limit("sign-in-account", 100, _WINDOW)  # from everywhere: high, so that strangers can hardly lock one out


class Invite(NamedTuple):
    """An invitation that was given out. Times are milliseconds UTC."""

    id: str
    role: Role
    note: str
    created_at: int
    expires_at: int
    used_at: int | None


class Session(NamedTuple):
    """A place where a member is signed in. `handle` names it to its owner, and is of no use for anything else."""

    handle: str
    created_at: int
    seen_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Token:
    """A program's key, without the key."""

    id: str
    name: str
    scopes: frozenset[Scope]
    created_at: int
    expires_at: int | None
    revoked_at: int | None


# --- invitations --------------------------------------------------------------------------------------------------


def create_invite(
    connection: Connection, role: Role, *, by: str | None, note: str = "", ttl_ms: int = INVITE_TTL
) -> str:
    """A new invitation's token, which can be used once. by: who invites; None is the command line.

    Raises FeedbackError "forbidden" when that member may not give this role.
    """
    check_may_appoint(connection, by, role)
    token, new, now = _new_secret(), tables.new_id(), clock.now()
    connection.execute(
        insert(tables.invite).values(
            id=new,
            token_hash=_hash(token),
            role=role,
            note=note,
            created_by=by,
            created_at=now,
            expires_at=now + ttl_ms,
        )
    )
    audit_log.record(connection, "invite.create", "invite", new, {"role": role}, by=by)
    return token


def invites(connection: Connection) -> list[Invite]:
    """All invitations, the newest first."""
    table = tables.invite
    rows = connection.execute(select(table).order_by(table.c.created_at.desc(), table.c.id))
    return [Invite(row.id, row.role, row.note, row.created_at, row.expires_at, row.used_at) for row in rows]


def find_invite(connection: Connection, token: str) -> Invite:
    """The invitation of a token. Raises FeedbackError "bad_invite" if it is unknown, used or over."""
    table = tables.invite
    open_ = (table.c.token_hash == _hash(token)) & table.c.used_at.is_(None) & (table.c.expires_at > clock.now())
    row = connection.execute(select(table).where(open_)).first()
    if row is None:
        raise FeedbackError("bad_invite", "This invitation was used already or is over. Ask for a new one.", status=404)
    return Invite(row.id, row.role, row.note, row.created_at, row.expires_at, row.used_at)


def cancel_invite(connection: Connection, invite_id: str, *, by: str) -> None:
    """Make an invitation useless. Raises FeedbackError "forbidden"."""
    table = tables.invite
    role = connection.scalar(select(table.c.role).where(table.c.id == invite_id))
    check_may_appoint(connection, by, role or "labeler")
    connection.execute(update(table).where(table.c.id == invite_id).values(expires_at=clock.now()))
    audit_log.record(connection, "invite.cancel", "invite", invite_id, by=by)


def accept_invite(database: Database, token: str, *, email: str, display_name: str, password: str) -> Account:
    """Make the account of an invited person. Labelers begin with training where a batch of training is running.

    Raises FeedbackError "bad_invite", "bad_email", "bad_name", "email_taken" or "weak_password".
    """
    address, name = _checked_email(email), _checked_name(display_name)
    passwords.check_password(password, address, name)
    with database.read() as connection:  # before the costly hash, so that guessed tokens cost us nothing
        find_invite(connection, token)
    password_hash = passwords.hash_password(password)
    with database.write() as connection:
        invite = find_invite(connection, token)
        account = add_member(
            connection,
            kind="person",
            role=invite.role,
            state="training" if invite.role == "labeler" and _has_training(connection) else "qualified",
            email=address,
            display_name=name,
            password_hash=password_hash,
        )
        table = tables.invite
        unused = (table.c.id == invite.id) & table.c.used_at.is_(None)
        used = update(table).where(unused).values(used_at=clock.now(), used_by=account.id)
        if connection.execute(used).rowcount != 1:  # somebody else used it since we looked
            raise FeedbackError("bad_invite", "This invitation was used already. Ask for a new one.", status=404)
        audit_log.record(connection, "member.join", "member", account.id, {"role": account.role}, by=account.id)
        return account


# --- sign-in ------------------------------------------------------------------------------------------------------


def sign_in(database: Database, email: str, password: str, *, address_key: str) -> str:
    """A new session's token. An unknown email and a wrong password take the same work and get the same words.

    address_key: `Project.address_key` of where the request comes from.

    Raises FeedbackError "wrong_credentials", "busy", or Throttled.
    """
    address = email.strip().lower()
    account_key = hashlib.sha256(address.encode("utf-8", "replace")).hexdigest()[:40]
    with database.write() as connection:
        hit(connection, BY_ADDRESS, address_key)
        hit(connection, BY_PAIR, f"{account_key} {address_key}")
        hit(connection, BY_ACCOUNT, account_key)
        found = connection.execute(select(tables.member).where(tables.member.c.email == address)).first()
    right = passwords.verify_password(found.password_hash if found else None, password)
    if found is None or not right or found.state in ("removed", "erased"):
        raise FeedbackError("wrong_credentials", "Email or password is wrong.", status=401)
    values: dict[str, int | str] = {"signed_in_at": clock.now()}
    if passwords.needs_rehash(found.password_hash):
        values["password_hash"] = passwords.hash_password(password)
    with database.write() as connection:
        forget(connection, [BY_PAIR], f"{account_key} {address_key}")
        forget(connection, [BY_ACCOUNT], account_key)
        _forget_old_sessions(connection)
        same = (tables.member.c.id == found.id) & (tables.member.c.password_hash == found.password_hash)
        if connection.execute(update(tables.member).where(same).values(values)).rowcount != 1:
            raise FeedbackError("wrong_credentials", "Email or password is wrong.", status=401)
        return _new_session(connection, found.id)


def change_password(database: Database, member_id: str, old: str, new: str, *, address_key: str) -> str:
    """Set another password and end all sessions of the member; returns the token of a new one.

    Raises FeedbackError "wrong_credentials" (the old one is wrong), "weak_password", or Throttled.
    """
    with database.write() as connection:
        hit(connection, BY_PAIR, f"{member_id} {address_key}")
        account = member(connection, member_id)
        table = tables.member
        before = connection.scalar(select(table.c.password_hash).where(table.c.id == member_id))
    if not passwords.verify_password(before, old):
        raise FeedbackError("wrong_credentials", "The old password is wrong.", status=401)
    passwords.check_password(new, account.email or "", account.display_name or "")
    password_hash = passwords.hash_password(new)
    with database.write() as connection:
        connection.execute(update(table).where(table.c.id == member_id).values(password_hash=password_hash))
        end_sessions(connection, member_id)
        audit_log.record(connection, "member.password", "member", member_id, by=member_id)
        return _new_session(connection, member_id)


# --- sessions -----------------------------------------------------------------------------------------------------


def session_account(connection: Connection, token: str) -> Account | None:
    """Who is signed in with this token, if it still counts. Reads only; see `keep_session`."""
    now = clock.now()
    row = connection.execute(_SIGNED_IN, {"token_hash": _hash(token), "now": now, "idle": now - SESSION_IDLE}).first()
    return None if row is None else account_of(row)


def is_session_due(connection: Connection, token: str) -> bool:
    """Whether it is time for `keep_session`: once in five minutes of use."""
    seen_at = connection.execute(_SEEN_AT, {"token_hash": _hash(token)}).scalar()
    return seen_at is not None and seen_at <= clock.now() - _SEEN_EVERY


def keep_session(database: Database, token: str) -> None:
    """Note that a session is in use, so that it does not end as idle."""
    session = tables.session
    with database.write() as connection:
        connection.execute(update(session).where(session.c.token_hash == _hash(token)).values(seen_at=clock.now()))


_SIGNED_IN = (
    select(tables.member)
    .join(tables.session, tables.session.c.member_id == tables.member.c.id)
    .where(
        tables.session.c.token_hash == bindparam("token_hash"),
        tables.session.c.expires_at > bindparam("now"),
        tables.session.c.seen_at > bindparam("idle"),
        tables.member.c.state.not_in(("removed", "erased")),
    )
)
_SEEN_AT = select(tables.session.c.seen_at).where(tables.session.c.token_hash == bindparam("token_hash"))


def sessions(connection: Connection, member_id: str) -> list[Session]:
    """Where a member is signed in, the latest use first."""
    session = tables.session
    rows = connection.execute(
        select(session)
        .where(session.c.member_id == member_id, session.c.expires_at > clock.now())
        .order_by(session.c.seen_at.desc())
    )
    return [Session(_handle(row.token_hash), row.created_at, row.seen_at, row.expires_at) for row in rows]


def end_session(connection: Connection, member_id: str, handle: str) -> None:
    """Sign out one of the member's own sessions."""
    session = tables.session
    for token_hash in connection.scalars(select(session.c.token_hash).where(session.c.member_id == member_id)).all():
        if _handle(token_hash) == handle:
            connection.execute(delete(session).where(session.c.token_hash == token_hash))


def sign_out(connection: Connection, token: str) -> None:
    """End a session."""
    connection.execute(delete(tables.session).where(tables.session.c.token_hash == _hash(token)))


# --- tokens for programs ------------------------------------------------------------------------------------------


def create_token(
    connection: Connection, member_id: str, name: str, scopes: Iterable[Scope], expires_at: int | None = None
) -> str:
    """A new API token of a member, shown once. It can never do more than the member.

    Raises FeedbackError "bad_scopes" or "bad_name".
    """
    account, wanted = member(connection, member_id), frozenset(scopes)
    if not wanted or not wanted <= SCOPES[account.role]:
        offered = ", ".join(sorted(SCOPES[account.role]))
        raise FeedbackError("bad_scopes", f"Choose one or more scopes out of: {offered}.", status=422)
    token, new = f"plaudit_{_new_secret()}", tables.new_id()
    connection.execute(
        insert(tables.api_token).values(
            id=new,
            member_id=member_id,
            name=_checked_name(name),
            token_hash=_hash(token),
            scopes=sorted(wanted),
            created_at=clock.now(),
            expires_at=expires_at,
        )
    )
    audit_log.record(connection, "token.create", "api_token", new, {"scopes": sorted(wanted)}, by=member_id)
    return token


def token_account(connection: Connection, token: str) -> tuple[Account, frozenset[Scope]] | None:
    """Whose token this is, and what it may do now, after what became of its owner's role."""
    row = connection.execute(_TOKEN, {"token_hash": _hash(token)}).first()
    if row is None or (row.expires_at is not None and row.expires_at <= clock.now()):
        return None
    account = account_of(row)
    if account.state in ("removed", "erased"):
        return None
    return account, frozenset(row.scopes) & SCOPES[account.role]


_TOKEN = (
    select(tables.member, tables.api_token.c.scopes, tables.api_token.c.expires_at)
    .join(tables.api_token, tables.api_token.c.member_id == tables.member.c.id)
    .where(tables.api_token.c.token_hash == bindparam("token_hash"), tables.api_token.c.revoked_at.is_(None))
)


def tokens(connection: Connection, member_id: str) -> list[Token]:
    """A member's tokens, the newest first."""
    table = tables.api_token
    rows = connection.execute(select(table).where(table.c.member_id == member_id).order_by(table.c.created_at.desc()))
    return [
        Token(row.id, row.name, frozenset(row.scopes), row.created_at, row.expires_at, row.revoked_at) for row in rows
    ]


def revoke_token(connection: Connection, member_id: str, token_id: str) -> None:
    """Make one of the member's own tokens useless."""
    table = tables.api_token
    mine = (table.c.id == token_id) & (table.c.member_id == member_id) & table.c.revoked_at.is_(None)
    if connection.execute(update(table).where(mine).values(revoked_at=clock.now())).rowcount:
        audit_log.record(connection, "token.revoke", "api_token", token_id, by=member_id)


# --- parts --------------------------------------------------------------------------------------------------------


def _new_secret() -> str:
    return secrets.token_urlsafe(32)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _handle(token_hash: str) -> str:
    return hashlib.sha256(token_hash.encode()).hexdigest()[:16]


def _new_session(connection: Connection, member_id: str) -> str:
    token, now = _new_secret(), clock.now()
    connection.execute(
        insert(tables.session).values(
            token_hash=_hash(token), member_id=member_id, created_at=now, seen_at=now, expires_at=now + SESSION_LIFE
        )
    )
    return token


def _forget_old_sessions(connection: Connection) -> None:
    session, now = tables.session, clock.now()
    over = (session.c.expires_at <= now) | (session.c.seen_at <= now - SESSION_IDLE)
    connection.execute(delete(session).where(over))


def _has_training(connection: Connection) -> bool:
    batch = tables.batch
    offered = exists().where(batch.c.status == "running", batch.c.purpose.in_(("training", "qualification")))
    return bool(connection.scalar(select(offered)))


def _checked_email(email: str) -> str:
    address = email.strip().lower()
    if (
        len(address) > 254
        or not re.fullmatch(r"[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+", address)
        or not address.isprintable()
    ):
        raise FeedbackError("bad_email", "That is no email address. Write it as name@example.org.", status=422)
    return address


def _checked_name(name: str) -> str:
    tidy = " ".join(name.split())
    if not 1 <= len(tidy) <= 80 or not tidy.isprintable():
        raise FeedbackError("bad_name", "A name has 1 to 80 characters, all of them visible.", status=422)
    return tidy
