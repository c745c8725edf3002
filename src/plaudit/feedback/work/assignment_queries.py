"""What `assignment` asks the database.

The statements are made once: SQLAlchemy takes longer to build one than the database to answer it.
"""

from sqlalchemy import String, bindparam, literal_column, select

from plaudit.feedback.store.tables import (
    assignment,
    batch,
    draft,
    guideline,
    member,
    prompt,
    response,
    submission,
    task,
    task_response,
)

SWEEP = 1_000  # leases that one claim ends at most

LOCK_MEMBER = select(member.c.state).where(member.c.id == bindparam("member_id")).with_for_update(key_share=True)
_mine = (assignment.c.id == bindparam("assignment_id"), assignment.c.member_id == bindparam("member_id"))
LOCKED = (
    select(
        assignment,
        task.c.batch_id,
        batch.c.kind,
        batch.c.purpose,
        batch.c.status.label("batch_status"),
        batch.c.config,
    )
    .join(task, task.c.id == assignment.c.task_id)
    .join(batch, batch.c.id == task.c.batch_id)
    .where(*_mine)
    .with_for_update(of=assignment, key_share=True)
)
# With a bound value PostgreSQL plans for as many of them as of those that are submitted.
_LEASED = literal_column("'leased'", String)
HELD = (
    select(assignment, task.c.batch_id, batch.c.purpose, batch.c.config)
    .join(task, task.c.id == assignment.c.task_id)
    .join(batch, batch.c.id == task.c.batch_id)
    .where(
        assignment.c.member_id == bindparam("member_id"),
        assignment.c.state == _LEASED,
        assignment.c.lease_expires_at >= bindparam("now"),
    )
    .order_by(assignment.c.leased_at)
)
OVERDUE = (
    select(assignment.c.id, assignment.c.task_id, assignment.c.end_reason)
    .where(assignment.c.state == _LEASED, assignment.c.lease_expires_at < bindparam("now"))
    .limit(SWEEP)
    # Somebody who holds one of them is just submitting it.
    .with_for_update(skip_locked=True)
)
RESPONSES = select(task_response.c.response_id).where(task_response.c.task_id == bindparam("task_id"))
BODIES = select(response.c.id, response.c.body).where(response.c.id.in_(bindparam("ids", expanding=True)))
_last_sent = (
    select(submission.c.id)
    .where(submission.c.assignment_id == assignment.c.id)
    .order_by(submission.c.revision.desc())
    .limit(1)
)
OPEN = (
    select(
        assignment,
        task.c.batch_id,
        batch.c.name,
        batch.c.kind,
        batch.c.purpose,
        batch.c.config,
        prompt.c.messages,
        guideline.c.version,
        guideline.c.flags,
        draft.c.revision.label("draft_revision"),
        draft.c.payload,
        draft.c.updated_at,
        _last_sent.scalar_subquery().label("last_sent"),
    )
    .join(task, task.c.id == assignment.c.task_id)
    .join(batch, batch.c.id == task.c.batch_id)
    .join(prompt, prompt.c.id == task.c.prompt_id)
    .join(guideline, guideline.c.id == assignment.c.guideline_id)
    .outerjoin(draft, draft.c.assignment_id == assignment.c.id)
    .where(*_mine)
)
