"""People, texts and what is to be judged."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "group_answer",
        sa.Column("respondent_key", sa.String(length=64), nullable=False),
        sa.Column("question", sa.String(length=40), nullable=False),
        sa.Column("option", sa.String(length=80), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("respondent_key", "question", name=op.f("pk_group_answer")),
    )
    op.create_table(
        "guideline",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("flags", _JSON, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=24), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("status IN ('draft', 'published', 'retired')", name=op.f("ck_guideline_status_known")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_guideline_version_positive")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_guideline")),
        sa.UniqueConstraint("version", name=op.f("uq_guideline_version")),
    )
    op.create_table(
        "member",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("role", sa.String(length=24), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("pseudonym", sa.String(length=40), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=True),
        sa.Column("display_name", sa.String(length=80), nullable=True),
        sa.Column("password_hash", sa.String(length=255), nullable=True),
        sa.Column("preferences", _JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("signed_in_at", sa.BigInteger(), nullable=True),
        sa.Column("erased_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("(state = 'erased') = (erased_at IS NOT NULL)", name=op.f("ck_member_erased_dated")),
        sa.CheckConstraint("kind IN ('person', 'ai', 'simulated')", name=op.f("ck_member_kind_known")),
        sa.CheckConstraint("role IN ('owner', 'admin', 'reviewer', 'labeler')", name=op.f("ck_member_role_known")),
        sa.CheckConstraint(
            "state <> 'erased' OR (email IS NULL AND display_name IS NULL AND password_hash IS NULL)",
            name=op.f("ck_member_erased_blank"),
        ),
        sa.CheckConstraint(
            "state IN ('training', 'qualified', 'paused', 'removed', 'erased')", name=op.f("ck_member_state_known")
        ),
        sa.CheckConstraint("email IS NULL OR email = lower(email)", name=op.f("ck_member_email_lower")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_member")),
        sa.UniqueConstraint("email", name=op.f("uq_member_email")),
        sa.UniqueConstraint("pseudonym", name=op.f("uq_member_pseudonym")),
    )
    op.create_table(
        "origin",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("info", _JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('model', 'import', 'person')", name=op.f("ck_origin_kind_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_origin")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_origin_fingerprint")),
    )
    op.create_table(
        "project",
        sa.Column("one", sa.Integer(), server_default="1", nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("settings", _JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("one = 1", name=op.f("ck_project_single_row")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_project")),
    )
    op.create_table(
        "throttle",
        sa.Column("bucket", sa.String(length=120), nullable=False),
        sa.Column("window_start", sa.BigInteger(), nullable=False),
        sa.Column("hits", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", name=op.f("pk_throttle")),
    )
    op.create_table(
        "api_token",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("member_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("scopes", _JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_api_token_member_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_api_token_token_hash")),
    )
    op.create_table(
        "batch",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("status", sa.String(length=24), nullable=False),
        sa.Column("purpose", sa.String(length=24), nullable=False),
        sa.Column("guideline_id", sa.String(length=32), nullable=False),
        sa.Column("config", _JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('demonstration', 'ranking')", name=op.f("ck_batch_kind_known")),
        sa.CheckConstraint("purpose IN ('work', 'training', 'qualification')", name=op.f("ck_batch_purpose_known")),
        sa.CheckConstraint("status IN ('draft', 'running', 'paused', 'closed')", name=op.f("ck_batch_status_known")),
        sa.ForeignKeyConstraint(["guideline_id"], ["guideline.id"], name=op.f("fk_batch_guideline_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch")),
        sa.UniqueConstraint("name", name=op.f("uq_batch_name")),
    )
    op.create_table(
        "invite",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=24), nullable=False),
        sa.Column("note", sa.String(length=120), server_default="", nullable=False),
        sa.Column("created_by", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("used_by", sa.String(length=32), nullable=True),
        sa.CheckConstraint("role IN ('owner', 'admin', 'reviewer', 'labeler')", name=op.f("ck_invite_role_known")),
        sa.ForeignKeyConstraint(["created_by"], ["member.id"], name=op.f("fk_invite_created_by")),
        sa.ForeignKeyConstraint(["used_by"], ["member.id"], name=op.f("fk_invite_used_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invite")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_invite_token_hash")),
    )
    op.create_table(
        "prompt",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("messages", _JSON, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("chars", sa.Integer(), nullable=False),
        sa.Column("origin_id", sa.String(length=32), nullable=False),
        sa.Column("split", sa.String(length=24), nullable=False),
        sa.Column("tags", _JSON, nullable=False),
        sa.Column("status", sa.String(length=24), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("split IN ('train', 'validation', 'test')", name=op.f("ck_prompt_split_known")),
        sa.CheckConstraint("status IN ('active', 'retired')", name=op.f("ck_prompt_status_known")),
        sa.CheckConstraint("chars BETWEEN 1 AND 200000", name=op.f("ck_prompt_size")),
        sa.ForeignKeyConstraint(["origin_id"], ["origin.id"], name=op.f("fk_prompt_origin_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompt")),
        sa.UniqueConstraint("sha256", name=op.f("uq_prompt_sha256")),
    )
    op.create_table(
        "session",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("member_id", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_session_member_id")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_session")),
    )
    with op.batch_alter_table("session", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_session_member_id"), ["member_id"], unique=False)
    op.create_table(
        "response",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("prompt_id", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("chars", sa.Integer(), nullable=False),
        sa.Column("origin_id", sa.String(length=32), nullable=False),
        sa.Column("details", _JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("chars BETWEEN 1 AND 200000", name=op.f("ck_response_size")),
        sa.ForeignKeyConstraint(["origin_id"], ["origin.id"], name=op.f("fk_response_origin_id")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_response_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_response")),
        sa.UniqueConstraint("id", "prompt_id", name=op.f("uq_response_id_prompt_id")),
        sa.UniqueConstraint("prompt_id", "origin_id", "sha256", name=op.f("uq_response_prompt_id_origin_id_sha256")),
    )
    op.create_table(
        "task",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("batch_id", sa.String(length=32), nullable=False),
        sa.Column("prompt_id", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=24), nullable=False),
        sa.Column("overlap", sa.SmallInteger(), nullable=False),
        sa.Column("slots_taken", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("submitted", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("priority", sa.Float(), server_default="0", nullable=False),
        sa.Column("selection", _JSON, nullable=False),
        sa.Column("content_key", sa.String(length=64), nullable=False),
        sa.Column("agreement", sa.Float(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status IN ('open', 'complete', 'retired')", name=op.f("ck_task_status_known")),
        sa.CheckConstraint("agreement BETWEEN 0 AND 1", name=op.f("ck_task_agreement")),
        sa.CheckConstraint("overlap BETWEEN 1 AND 10000", name=op.f("ck_task_overlap")),
        sa.CheckConstraint("slots_taken BETWEEN 0 AND overlap", name=op.f("ck_task_slots")),
        sa.CheckConstraint("submitted BETWEEN 0 AND slots_taken", name=op.f("ck_task_submitted")),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_task_batch_id")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_task_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
        sa.UniqueConstraint("batch_id", "content_key", name=op.f("uq_task_batch_id_content_key")),
        sa.UniqueConstraint("id", "prompt_id", name=op.f("uq_task_id_prompt_id")),
    )
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.create_index("ix_task_agreement", ["batch_id", "agreement"], unique=False)
        batch_op.create_index(
            "ix_task_begun",
            ["batch_id", "priority"],
            unique=False,
            sqlite_where=sa.text("status = 'open' AND slots_taken > 0 AND slots_taken < overlap"),
            postgresql_where=sa.text("status = 'open' AND slots_taken > 0 AND slots_taken < overlap"),
        )
        batch_op.create_index(
            "ix_task_fresh",
            ["batch_id", "priority"],
            unique=False,
            sqlite_where=sa.text("status = 'open' AND slots_taken = 0"),
            postgresql_where=sa.text("status = 'open' AND slots_taken = 0"),
        )
    op.create_table(
        "gold_key",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("expected", _JSON, nullable=False),
        sa.Column("explanation", sa.Text(), server_default="", nullable=False),
        sa.Column("created_by", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("retired_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["created_by"], ["member.id"], name=op.f("fk_gold_key_created_by")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_gold_key_task_id")),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_gold_key")),
    )
    op.create_table(
        "task_response",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("response_id", sa.String(length=32), nullable=False),
        sa.Column("prompt_id", sa.String(length=32), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.CheckConstraint("slot BETWEEN 0 AND 8", name=op.f("ck_task_response_slot")),
        sa.ForeignKeyConstraint(
            ["response_id", "prompt_id"],
            ["response.id", "response.prompt_id"],
            name=op.f("fk_task_response_response_id_prompt_id"),
        ),
        sa.ForeignKeyConstraint(
            ["task_id", "prompt_id"], ["task.id", "task.prompt_id"], name=op.f("fk_task_response_task_id_prompt_id")
        ),
        sa.PrimaryKeyConstraint("task_id", "response_id", name=op.f("pk_task_response")),
        sa.UniqueConstraint("task_id", "slot", name=op.f("uq_task_response_task_id_slot")),
    )
