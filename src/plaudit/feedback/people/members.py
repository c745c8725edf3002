"""Members of a project: who they are, what they may do, and who may change that."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, insert, select, update

from plaudit.feedback import audit_log
from plaudit.feedback.errors import FeedbackError
from plaudit.feedback.store import clock, tables

Kind = Literal["person", "ai", "simulated"]
Role = Literal["owner", "admin", "reviewer", "labeler"]
State = Literal["training", "qualified", "paused", "removed", "erased"]

RANKS: Mapping[Role, int] = {"labeler": 0, "reviewer": 1, "admin": 2, "owner": 3}
_LETTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # none that look alike
_PREFIX: Mapping[Kind, str] = {"person": "L", "ai": "AI", "simulated": "S"}


@dataclass(frozen=True, slots=True)
class Account:
    """A member. `pseudonym` is all that other members and data sets see of a labeler."""

    id: str
    kind: Kind
    role: Role
    state: State
    pseudonym: str
    email: str | None
    display_name: str | None
    preferences: Mapping[str, Any]
    created_at: int
    signed_in_at: int | None

    def is_at_least(self, role: Role) -> bool:
        """Whether the member has this role or a higher one."""
        return RANKS[self.role] >= RANKS[role]


def member(connection: Connection, member_id: str) -> Account:
    """One member. Raises FeedbackError "not_found"."""
    row = connection.execute(select(tables.member).where(tables.member.c.id == member_id)).first()
    if row is None:
        raise FeedbackError("not_found", "There is no such member.", status=404)
    return account_of(row)


def members(connection: Connection) -> list[Account]:
    """All members, the oldest first, those removed and erased among them."""
    rows = connection.execute(select(tables.member).order_by(tables.member.c.created_at, tables.member.c.id))
    return [account_of(row) for row in rows]


def add_member(
    connection: Connection,
    *,
    kind: Kind,
    role: Role = "labeler",
    state: State = "qualified",
    pseudonym: str | None = None,
    email: str | None = None,
    display_name: str | None = None,
    password_hash: str | None = None,
) -> Account:
    """A new member; people come by invitation (`accounts.accept_invite`), others are added with this.

    Raises FeedbackError "email_taken" or "pseudonym_taken".
    """
    for column, value, code in (("email", email, "email_taken"), ("pseudonym", pseudonym, "pseudonym_taken")):
        taken = select(tables.member.c.id).where(tables.member.c[column] == value)
        if value is not None and connection.execute(taken).first():
            raise FeedbackError(code, f"Another member has the {column} {value}. Use another one.")
    new = tables.new_id()
    connection.execute(
        insert(tables.member).values(
            id=new,
            kind=kind,
            role=role,
            state=state,
            pseudonym=pseudonym or _free_pseudonym(connection, kind),
            email=email,
            display_name=display_name,
            password_hash=password_hash,
            preferences={},
            created_at=clock.now(),
        )
    )
    return member(connection, new)


def set_role(connection: Connection, member_id: str, role: Role, *, by: str | None) -> None:
    """Change a role, and end the member's sessions. Only owners make or unmake admins and owners.

    Raises FeedbackError "forbidden" or "last_owner".
    """
    target = member(connection, member_id)
    _check_may_change(connection, target, by, to=role)
    if target.role == role:
        return
    if target.role == "owner":
        check_not_last_owner(connection, member_id)
    connection.execute(update(tables.member).where(tables.member.c.id == member_id).values(role=role))
    end_sessions(connection, member_id)
    audit_log.record(connection, "member.role", "member", member_id, {"from": target.role, "to": role}, by=by)


def set_state(
    connection: Connection,
    member_id: str,
    state: Literal["training", "qualified", "paused", "removed"],
    *,
    by: str | None,
) -> None:
    """Qualify, pause or remove a member. Who is removed is signed out everywhere; what they judged stays.

    Raises FeedbackError "forbidden", "last_owner" or "erased".
    """
    target = member(connection, member_id)
    _check_may_change(connection, target, by)
    if target.state == "erased":
        raise FeedbackError("erased", "This member was erased, which cannot be undone. Invite them anew.")
    if target.role == "owner" and state in ("paused", "removed"):
        check_not_last_owner(connection, member_id)
    connection.execute(update(tables.member).where(tables.member.c.id == member_id).values(state=state))
    if state == "removed":
        end_sessions(connection, member_id)
        revoke_tokens(connection, member_id)
    audit_log.record(connection, "member.state", "member", member_id, {"from": target.state, "to": state}, by=by)


def set_preferences(connection: Connection, member_id: str, preferences: Mapping[str, Any]) -> None:
    """Replace what a member chose for their own pages."""
    values = {"preferences": dict(preferences)}
    connection.execute(update(tables.member).where(tables.member.c.id == member_id).values(values))


def check_may_appoint(connection: Connection, by: str | None, role: Role) -> None:
    """Raise FeedbackError "forbidden" unless the member may give somebody this role. None is the command line."""
    if by is None:
        return
    actor = member(connection, by)
    if actor.state in ("removed", "erased", "paused") or not actor.is_at_least("admin"):
        raise FeedbackError("forbidden", "Only admins and owners manage members.", status=403)
    if RANKS[role] >= RANKS["admin"] and actor.role != "owner":
        raise FeedbackError("forbidden", f"Only an owner can decide about the role {role}.", status=403)


def check_not_last_owner(connection: Connection, member_id: str) -> None:
    """Raise FeedbackError "last_owner" if nobody else could manage the project without this member."""
    table = tables.member
    # Locked, else two owners who remove each other at the same moment would both see the other one staying.
    owners = connection.scalars(
        select(table.c.id)
        .where(table.c.role == "owner", table.c.state.in_(("training", "qualified")))
        .order_by(table.c.id)
        .with_for_update()
    )
    if set(owners) <= {member_id}:
        raise FeedbackError("last_owner", "This is the last owner. Make somebody else an owner first.")


def end_sessions(connection: Connection, member_id: str) -> None:
    """Sign the member out everywhere."""
    connection.execute(delete(tables.session).where(tables.session.c.member_id == member_id))


def revoke_tokens(connection: Connection, member_id: str) -> None:
    """Make all API tokens of a member useless."""
    token = tables.api_token
    mine = (token.c.member_id == member_id) & token.c.revoked_at.is_(None)
    connection.execute(update(token).where(mine).values(revoked_at=clock.now()))


def account_of(row: Row[Any]) -> Account:
    """The account in a row of `member`."""
    return Account(
        row.id,
        row.kind,
        row.role,
        row.state,
        row.pseudonym,
        row.email,
        row.display_name,
        row.preferences,
        row.created_at,
        row.signed_in_at,
    )


def _check_may_change(connection: Connection, target: Account, by: str | None, *, to: Role = "labeler") -> None:
    check_may_appoint(connection, by, max(target.role, to, key=RANKS.__getitem__))


def _free_pseudonym(connection: Connection, kind: Kind) -> str:
    while True:
        name = f"{_PREFIX[kind]}-{''.join(secrets.choice(_LETTERS) for _ in range(5))}"
        if connection.execute(select(tables.member.c.id).where(tables.member.c.pseudonym == name)).first() is None:
            return name
