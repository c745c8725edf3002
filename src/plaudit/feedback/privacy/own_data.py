"""All that a project holds about one member, for that member."""

from typing import Any

from sqlalchemy import Connection, Table, select

from plaudit.feedback.people.members import member
from plaudit.feedback.privacy import groups
from plaudit.feedback.store import tables
from plaudit.feedback.store.secrets import Secrets
from plaudit.feedback.tasks.answers import as_json, load_answers

_AT_ONCE = 500  # both databases limit the parameters of a statement


def own_data(c: Connection, secrets: Secrets, member_id: str) -> dict[str, Any]:
    """The account, what was judged and written, and voluntary answers; ready for JSON, times in milliseconds UTC.

    Passwords and tokens are stored as hashes only and are left out. Which tasks were gold questions is not told.
    """
    account = member(c, member_id)
    work, draft = tables.assignment, tables.draft
    drafts = select(draft).join(work, work.c.id == draft.c.assignment_id).where(work.c.member_id == member_id)
    return {
        "account": {
            "id": account.id,
            "pseudonym": account.pseudonym,
            "email": account.email,
            "display_name": account.display_name,
            "role": account.role,
            "state": account.state,
            "preferences": dict(account.preferences),
            "created_at": account.created_at,
            "signed_in_at": account.signed_in_at,
        },
        "sessions": _rows(c, tables.session, member_id, "created_at", "seen_at", "expires_at"),
        "tokens": _rows(c, tables.api_token, member_id, "name", "scopes", "created_at", "expires_at", "revoked_at"),
        "assignments": _rows(c, work, member_id, "id", "state", "leased_at", "ended_at", "end_reason", "shown"),
        "submissions": _submissions(c, member_id),
        "drafts": [
            {"assignment_id": row.assignment_id, "updated_at": row.updated_at, "payload": row.payload}
            for row in c.execute(drafts)
        ],
        "group_answers": groups.own_answers(c, secrets, member_id),
    }


def _rows(c: Connection, table: Table, member_id: str, *columns: str) -> list[dict[str, Any]]:
    query = select(*(table.c[name] for name in columns)).where(table.c.member_id == member_id)
    return [dict(zip(columns, row, strict=True)) for row in c.execute(query)]


def _submissions(c: Connection, member_id: str) -> list[dict[str, Any]]:
    work, submission = tables.assignment, tables.submission
    rows = c.execute(
        select(submission)
        .join(work, work.c.id == submission.c.assignment_id)
        .where(work.c.member_id == member_id)
        .order_by(submission.c.created_at, submission.c.id)
    ).all()
    found: list[dict[str, Any]] = []
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        answers = load_answers(c, [row.id for row in part])
        found += [
            {
                "assignment_id": row.assignment_id,
                "revision": row.revision,
                "created_at": row.created_at,
                "active_ms": row.active_ms,
                "outcome": row.outcome,
                "answer": as_json(answers[row.id]),
            }
            for row in part
        ]
    return found
