"""How much each member has judged."""

from sqlalchemy import Connection, func, select

from plaudit.feedback.store.tables import assignment


def submitted_by_member(c: Connection) -> dict[str, int]:
    """Member id -> tasks they submitted that were not taken back or voided."""
    query = (
        select(assignment.c.member_id, func.count())
        .where(assignment.c.state == "submitted")
        .group_by(assignment.c.member_id)
    )
    return dict(c.execute(query).all())
