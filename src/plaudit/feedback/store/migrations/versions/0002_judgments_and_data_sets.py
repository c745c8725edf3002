"""Judgments, data sets and what happened."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "audit_event",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("member_id", sa.String(length=32), nullable=True),
        sa.Column("action", sa.String(length=60), nullable=False),
        sa.Column("object_type", sa.String(length=40), nullable=False),
        sa.Column("object_id", sa.String(length=64), nullable=False),
        sa.Column("detail", _JSON, nullable=False),
        sa.Column("previous_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_audit_event_member_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_event")),
        sa.UniqueConstraint("hash", name=op.f("uq_audit_event_hash")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "snapshot",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("recipe", _JSON, nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("content_sha256", sa.String(length=64), nullable=False),
        sa.Column("manifest", _JSON, nullable=False),
        sa.Column("created_by", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('demonstrations', 'rankings', 'comparisons')", name=op.f("ck_snapshot_kind_known")
        ),
        sa.ForeignKeyConstraint(["created_by"], ["member.id"], name=op.f("fk_snapshot_created_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_snapshot_name_version")),
    )
    op.create_table(
        "snapshot_use",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("snapshot_id", sa.String(length=32), nullable=False),
        sa.Column("run", sa.String(length=400), nullable=False),
        sa.Column("stage", sa.String(length=40), nullable=False),
        sa.Column("model_sha256", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["snapshot_id"], ["snapshot.id"], name=op.f("fk_snapshot_use_snapshot_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot_use")),
        sa.UniqueConstraint("snapshot_id", "run", "stage", name=op.f("uq_snapshot_use_snapshot_id_run_stage")),
    )
    op.create_table(
        "adjudication",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("member_id", sa.String(length=32), nullable=False),
        sa.Column("tiers", _JSON, nullable=False),
        sa.Column("category", sa.String(length=24), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "category IN ('ambiguous', 'mistake', 'guideline', 'taste', 'bad_data')",
            name=op.f("ck_adjudication_category_known"),
        ),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_adjudication_member_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_adjudication_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjudication")),
        sa.UniqueConstraint("task_id", "member_id", name=op.f("uq_adjudication_task_id_member_id")),
    )
    op.create_table(
        "assignment",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("member_id", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("lease_no", sa.Integer(), server_default="1", nullable=False),
        sa.Column("leased_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_expires_at", sa.BigInteger(), nullable=False),
        sa.Column("shown", _JSON, nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("guideline_id", sa.String(length=32), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("end_reason", sa.String(length=40), nullable=True),
        sa.CheckConstraint("(state = 'leased') = (ended_at IS NULL)", name=op.f("ck_assignment_ended_dated")),
        sa.CheckConstraint(
            "state IN ('leased', 'submitted', 'skipped', 'expired', 'released', 'voided')",
            name=op.f("ck_assignment_state_known"),
        ),
        sa.ForeignKeyConstraint(["guideline_id"], ["guideline.id"], name=op.f("fk_assignment_guideline_id")),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_assignment_member_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_assignment_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignment")),
        sa.UniqueConstraint("task_id", "member_id", name=op.f("uq_assignment_task_id_member_id")),
    )
    with op.batch_alter_table("assignment", schema=None) as batch_op:
        batch_op.create_index("ix_assignment_expiry", ["state", "lease_expires_at"], unique=False)
        batch_op.create_index("ix_assignment_member", ["member_id", "state"], unique=False)
    op.create_table(
        "draft",
        sa.Column("assignment_id", sa.String(length=32), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("payload", _JSON, nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["assignment_id"], ["assignment.id"], name=op.f("fk_draft_assignment_id")),
        sa.PrimaryKeyConstraint("assignment_id", name=op.f("pk_draft")),
    )
    op.create_table(
        "submission",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("assignment_id", sa.String(length=32), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=24), nullable=False),
        sa.Column("confidence", sa.SmallInteger(), nullable=True),
        sa.Column("active_ms", sa.Integer(), nullable=True),
        sa.Column("guideline_id", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("outcome IN ('answered', 'none_acceptable')", name=op.f("ck_submission_outcome_known")),
        sa.CheckConstraint("active_ms IS NULL OR active_ms >= 0", name=op.f("ck_submission_active")),
        sa.CheckConstraint("confidence IS NULL OR confidence BETWEEN 1 AND 5", name=op.f("ck_submission_confidence")),
        sa.CheckConstraint("revision >= 1", name=op.f("ck_submission_revision_positive")),
        sa.ForeignKeyConstraint(["assignment_id"], ["assignment.id"], name=op.f("fk_submission_assignment_id")),
        sa.ForeignKeyConstraint(["guideline_id"], ["guideline.id"], name=op.f("fk_submission_guideline_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_submission")),
        sa.UniqueConstraint(
            "assignment_id", "idempotency_key", name=op.f("uq_submission_assignment_id_idempotency_key")
        ),
        sa.UniqueConstraint("assignment_id", "revision", name=op.f("uq_submission_assignment_id_revision")),
    )
    op.create_table(
        "flag_entry",
        sa.Column("submission_id", sa.String(length=32), nullable=False),
        sa.Column("response_id", sa.String(length=32), nullable=False),
        sa.Column("flag", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["response_id"], ["response.id"], name=op.f("fk_flag_entry_response_id")),
        sa.ForeignKeyConstraint(["submission_id"], ["submission.id"], name=op.f("fk_flag_entry_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", "response_id", "flag", name=op.f("pk_flag_entry")),
    )
    op.create_table(
        "gold_result",
        sa.Column("submission_id", sa.String(length=32), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("score BETWEEN 0 AND 1", name=op.f("ck_gold_result_score")),
        sa.ForeignKeyConstraint(["submission_id"], ["submission.id"], name=op.f("fk_gold_result_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_gold_result")),
    )
    op.create_table(
        "ranking_entry",
        sa.Column("submission_id", sa.String(length=32), nullable=False),
        sa.Column("response_id", sa.String(length=32), nullable=False),
        sa.Column("tier", sa.SmallInteger(), nullable=False),
        sa.CheckConstraint("tier BETWEEN 1 AND 9", name=op.f("ck_ranking_entry_tier")),
        sa.ForeignKeyConstraint(["response_id"], ["response.id"], name=op.f("fk_ranking_entry_response_id")),
        sa.ForeignKeyConstraint(["submission_id"], ["submission.id"], name=op.f("fk_ranking_entry_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", "response_id", name=op.f("pk_ranking_entry")),
    )
    op.create_table(
        "snapshot_source",
        sa.Column("snapshot_id", sa.String(length=32), nullable=False),
        sa.Column("row_no", sa.Integer(), nullable=False),
        sa.Column("submission_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["snapshot_id"], ["snapshot.id"], name=op.f("fk_snapshot_source_snapshot_id")),
        sa.ForeignKeyConstraint(["submission_id"], ["submission.id"], name=op.f("fk_snapshot_source_submission_id")),
        sa.PrimaryKeyConstraint("snapshot_id", "row_no", "submission_id", name=op.f("pk_snapshot_source")),
    )
    with op.batch_alter_table("snapshot_source", schema=None) as batch_op:
        batch_op.create_index("ix_snapshot_source_submission", ["submission_id"], unique=False)
    op.create_table(
        "submission_event",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("submission_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("member_id", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('withdrawn', 'voided', 'restored')", name=op.f("ck_submission_event_kind_known")),
        sa.ForeignKeyConstraint(["member_id"], ["member.id"], name=op.f("fk_submission_event_member_id")),
        sa.ForeignKeyConstraint(["submission_id"], ["submission.id"], name=op.f("fk_submission_event_submission_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_submission_event")),
        sa.UniqueConstraint("submission_id", "created_at", name=op.f("uq_submission_event_submission_id_created_at")),
    )
    op.create_table(
        "submission_text",
        sa.Column("submission_id", sa.String(length=32), nullable=False),
        sa.Column("field", sa.String(length=24), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("erased_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("field IN ('demonstration', 'reason')", name=op.f("ck_submission_text_field_known")),
        sa.CheckConstraint("(body IS NULL) = (erased_at IS NOT NULL)", name=op.f("ck_submission_text_erased_dated")),
        sa.ForeignKeyConstraint(["submission_id"], ["submission.id"], name=op.f("fk_submission_text_submission_id")),
        sa.PrimaryKeyConstraint("submission_id", "field", name=op.f("pk_submission_text")),
    )
