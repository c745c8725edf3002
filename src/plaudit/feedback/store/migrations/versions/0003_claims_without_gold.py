"""The indexes that claims read leave out tasks for everybody."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_CONDITIONS = {
    "ix_task_begun": "status = 'open' AND slots_taken > 0 AND slots_taken < overlap AND overlap < 10000",
    "ix_task_fresh": "status = 'open' AND slots_taken = 0 AND overlap < 10000",
}


def upgrade() -> None:
    """Make the two indexes anew."""
    for name, condition in _CONDITIONS.items():
        where = sa.text(condition)
        op.drop_index(name, table_name="task")
        op.create_index(name, "task", ["batch_id", "priority"], sqlite_where=where, postgresql_where=where)
