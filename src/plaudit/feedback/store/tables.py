"""The tables of a project: people, texts, tasks, judgments, data sets and what was done with them.

One database is one project. The same definitions serve SQLite and PostgreSQL. What must never break is a constraint
here (or a trigger, see `triggers.py`) and not a habit of the code:

* nobody judges a task twice, and a task never gets more judgments than asked for (`assignment`, `task`);
* a repeated submit is the same submit (`submission.idempotency_key`);
* an answer to one prompt cannot enter a task of another (composite foreign keys of `task_response`);
* judgments are only added, never changed (`APPEND_ONLY`); free text lives apart from them, so that it can be erased.

Keys are random (`new_id`), so that nobody can guess a neighbour's. Times are whole milliseconds since 1970 in UTC: the
same number on both databases, comparable in SQL.
"""

import secrets

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy import text as sql_text
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

MAX_CHARS = 200_000  # of a prompt or a response
MAX_RESPONSES = 9  # that one person ranks at once
EVERYBODY = 10_000  # overlap of a task that all labelers answer: gold, training, qualification

_ID = String(32)
_SHA256 = String(64)
_JSON = JSON().with_variant(JSONB(), "postgresql")  # PostgreSQL's plain json has no equality, which triggers need


def new_id() -> str:
    """A random key of 32 hexadecimal digits."""
    return secrets.token_hex(16)


def _id() -> Column[str]:
    return Column("id", _ID, primary_key=True, default=new_id)


def _key(name: str, target: str, *, null: bool = False, primary: bool = False) -> Column[str]:
    return Column(name, _ID, ForeignKey(target), nullable=null, primary_key=primary)


def _time(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null)


def _one_of(name: str, *values: str) -> tuple[Column[str], CheckConstraint]:
    listed = ", ".join(f"'{value}'" for value in values)
    return Column(name, String(24), nullable=False), CheckConstraint(f"{name} IN ({listed})", name=f"{name}_known")


# --- the project and its people -----------------------------------------------------------------------------------

project = Table(
    "project",
    metadata,
    Column("one", Integer, primary_key=True, server_default="1"),
    Column("name", String(120), nullable=False),
    Column("settings", _JSON, nullable=False),  # feedback.settings.ProjectSettings
    _time("created_at"),
    CheckConstraint("one = 1", name="single_row"),
)

# A labeler is a person, a model or a simulation; data sets take one kind only unless a recipe names more.
member = Table(
    "member",
    metadata,
    _id(),
    *_one_of("kind", "person", "ai", "simulated"),
    *_one_of("role", "owner", "admin", "reviewer", "labeler"),
    *_one_of("state", "training", "qualified", "paused", "removed", "erased"),
    Column("pseudonym", String(40), nullable=False, unique=True),  # all that other members and data sets see
    Column("email", String(254), unique=True),
    Column("display_name", String(80)),
    Column("password_hash", String(255)),
    Column("preferences", _JSON, nullable=False, default=dict),  # shortcuts on or off, colour scheme
    _time("created_at"),
    _time("signed_in_at", null=True),
    _time("erased_at", null=True),
    CheckConstraint("email IS NULL OR email = lower(email)", name="email_lower"),
    CheckConstraint("(state = 'erased') = (erased_at IS NOT NULL)", name="erased_dated"),
    CheckConstraint(
        "state <> 'erased' OR (email IS NULL AND display_name IS NULL AND password_hash IS NULL)", name="erased_blank"
    ),
)

# Only hashes of secrets are stored: a copy of the database signs nobody in.
session = Table(
    "session",
    metadata,
    Column("token_hash", _SHA256, primary_key=True),
    Column("member_id", _ID, ForeignKey("member.id"), nullable=False, index=True),
    _time("created_at"),
    _time("seen_at"),
    _time("expires_at"),
)
api_token = Table(
    "api_token",
    metadata,
    _id(),
    _key("member_id", "member.id"),
    Column("name", String(80), nullable=False),
    Column("token_hash", _SHA256, nullable=False, unique=True),
    Column("scopes", _JSON, nullable=False),  # list of feedback.people.accounts.Scope
    _time("created_at"),
    _time("expires_at", null=True),
    _time("revoked_at", null=True),
)
invite = Table(
    "invite",
    metadata,
    _id(),
    Column("token_hash", _SHA256, nullable=False, unique=True),
    *_one_of("role", "owner", "admin", "reviewer", "labeler"),
    Column("note", String(120), nullable=False, server_default=""),
    _key("created_by", "member.id", null=True),
    _time("created_at"),
    _time("expires_at"),
    _time("used_at", null=True),
    _key("used_by", "member.id", null=True),
)
throttle = Table(
    "throttle",
    metadata,
    Column("bucket", String(120), primary_key=True),  # what is counted, with a keyed hash of the address or account
    _time("window_start"),
    Column("hits", Integer, nullable=False),
)
# Keyed by HMAC(project secret, member id) instead of the member: deletable, and no join from an account to an answer.
group_answer = Table(
    "group_answer",
    metadata,
    Column("respondent_key", _SHA256, primary_key=True),
    Column("question", String(40), primary_key=True),
    Column("option", String(80), nullable=False),
    _time("created_at"),
)

# --- guidelines and texts -----------------------------------------------------------------------------------------

guideline = Table(
    "guideline",
    metadata,
    _id(),
    Column("version", Integer, nullable=False, unique=True),
    Column("body", Text, nullable=False),  # markdown
    Column("flags", _JSON, nullable=False),  # list of {"key", "label", "help"}: what can be said of a single response
    Column("sha256", _SHA256, nullable=False),
    *_one_of("status", "draft", "published", "retired"),
    _time("created_at"),
    _time("published_at", null=True),
    CheckConstraint("version >= 1", name="version_positive"),
)
# Where texts come from: a model's run with its weights, an import, or a person's demonstration.
origin = Table(
    "origin",
    metadata,
    _id(),
    *_one_of("kind", "model", "import", "person"),
    Column("name", String(200), nullable=False),
    Column("fingerprint", _SHA256, nullable=False, unique=True),  # of everything else in this row
    Column("info", _JSON, nullable=False),  # run folder, checkpoint and config hashes, sampling settings, file, licence
    _time("created_at"),
)
prompt = Table(
    "prompt",
    metadata,
    _id(),
    Column("messages", _JSON, nullable=False),  # list of {"role", "content"}
    Column("sha256", _SHA256, nullable=False, unique=True),
    Column("chars", Integer, nullable=False),
    _key("origin_id", "origin.id"),
    *_one_of("split", "train", "validation", "test"),
    Column("tags", _JSON, nullable=False, default=list),
    *_one_of("status", "active", "retired"),
    _time("created_at"),
    CheckConstraint(f"chars BETWEEN 1 AND {MAX_CHARS}", name="size"),
)
response = Table(
    "response",
    metadata,
    _id(),
    _key("prompt_id", "prompt.id"),
    Column("body", Text, nullable=False),
    Column("sha256", _SHA256, nullable=False),
    Column("chars", Integer, nullable=False),
    _key("origin_id", "origin.id"),
    Column("details", _JSON, nullable=False, default=dict),  # seed, tokens, finish reason, scores
    _time("created_at"),
    UniqueConstraint("prompt_id", "origin_id", "sha256"),
    UniqueConstraint("id", "prompt_id"),
    CheckConstraint(f"chars BETWEEN 1 AND {MAX_CHARS}", name="size"),
)

# --- what is to be judged -----------------------------------------------------------------------------------------

batch = Table(
    "batch",
    metadata,
    _id(),
    Column("name", String(120), nullable=False, unique=True),
    *_one_of("kind", "demonstration", "ranking"),
    *_one_of("status", "draft", "running", "paused", "closed"),
    *_one_of("purpose", "work", "training", "qualification"),
    _key("guideline_id", "guideline.id"),
    Column("config", _JSON, nullable=False),  # feedback.tasks.batches.BatchConfig
    _time("created_at"),
)
task = Table(
    "task",
    metadata,
    _id(),
    _key("batch_id", "batch.id"),
    _key("prompt_id", "prompt.id"),
    *_one_of("status", "open", "complete", "retired"),
    Column("overlap", SmallInteger, nullable=False),  # judgments asked for
    Column("slots_taken", SmallInteger, nullable=False, server_default="0"),  # live leases and submissions
    Column("submitted", SmallInteger, nullable=False, server_default="0"),
    Column("priority", Float, nullable=False, server_default="0"),  # higher is sooner
    Column("selection", _JSON, nullable=False, default=dict),  # policy, score, inclusion probability, at random or not
    Column("content_key", _SHA256, nullable=False),  # of the prompt and its responses
    Column("agreement", Float),  # of its labelers, see feedback.tasks.overlap; null below two rankings
    _time("created_at"),
    UniqueConstraint("batch_id", "content_key"),
    UniqueConstraint("id", "prompt_id"),
    CheckConstraint(f"overlap BETWEEN 1 AND {EVERYBODY}", name="overlap"),
    CheckConstraint("slots_taken BETWEEN 0 AND overlap", name="slots"),
    CheckConstraint("submitted BETWEEN 0 AND slots_taken", name="submitted"),
    CheckConstraint("agreement BETWEEN 0 AND 1", name="agreement"),
    Index("ix_task_agreement", "batch_id", "agreement"),
)
# A claim looks first for tasks that somebody began, then for fresh ones. An index for each, or the search would grow
# with the batch; and none for both, which SQLite would prefer. Without tasks for everybody: gold questions stay begun
# for ever, and each claim would step over all of them.
for _name, _condition in (
    ("ix_task_begun", f"status = 'open' AND slots_taken > 0 AND slots_taken < overlap AND overlap < {EVERYBODY}"),
    ("ix_task_fresh", f"status = 'open' AND slots_taken = 0 AND overlap < {EVERYBODY}"),
):
    _where = sql_text(_condition)
    Index(_name, task.c.batch_id, task.c.priority, sqlite_where=_where, postgresql_where=_where)
task_response = Table(
    "task_response",
    metadata,
    Column("task_id", _ID, primary_key=True),
    Column("response_id", _ID, primary_key=True),
    Column("prompt_id", _ID, nullable=False),
    Column("slot", SmallInteger, nullable=False),
    ForeignKeyConstraint(["task_id", "prompt_id"], ["task.id", "task.prompt_id"]),
    ForeignKeyConstraint(["response_id", "prompt_id"], ["response.id", "response.prompt_id"]),
    UniqueConstraint("task_id", "slot"),
    CheckConstraint(f"slot BETWEEN 0 AND {MAX_RESPONSES - 1}", name="slot"),
)
# No query for a labeler joins this table: a gold task looks like any other.
gold_key = Table(
    "gold_key",
    metadata,
    _key("task_id", "task.id", primary=True),
    Column("expected", _JSON, nullable=False),  # feedback.tasks.expected.Expected
    Column("explanation", Text, nullable=False, server_default=""),
    _key("created_by", "member.id", null=True),
    _time("created_at"),
    _time("retired_at", null=True),
)

# --- judgments ----------------------------------------------------------------------------------------------------

assignment = Table(
    "assignment",
    metadata,
    _id(),
    _key("task_id", "task.id"),
    _key("member_id", "member.id"),
    *_one_of("state", "leased", "submitted", "skipped", "expired", "released", "voided"),
    Column("lease_no", Integer, nullable=False, server_default="1"),  # fencing: an old page cannot submit for a new one
    _time("leased_at"),
    _time("lease_expires_at"),
    Column("shown", _JSON, nullable=False),  # response ids in the order this labeler sees them
    Column("idempotency_key", String(64), nullable=False),  # of the next submit
    _key("guideline_id", "guideline.id"),
    _time("ended_at", null=True),
    Column("end_reason", String(40)),
    UniqueConstraint("task_id", "member_id"),
    CheckConstraint("(state = 'leased') = (ended_at IS NULL)", name="ended_dated"),
    Index("ix_assignment_expiry", "state", "lease_expires_at"),
    Index("ix_assignment_member", "member_id", "state"),
)
draft = Table(
    "draft",
    metadata,
    _key("assignment_id", "assignment.id", primary=True),
    Column("revision", Integer, nullable=False),
    Column("payload", _JSON, nullable=False),
    _time("updated_at"),
)
submission = Table(
    "submission",
    metadata,
    _id(),
    _key("assignment_id", "assignment.id"),
    Column("revision", Integer, nullable=False),
    Column("idempotency_key", String(64), nullable=False),
    Column("request_sha256", _SHA256, nullable=False),
    *_one_of("outcome", "answered", "none_acceptable"),
    Column("confidence", SmallInteger),
    Column("active_ms", Integer),  # time with the page in front and in use, as the page counted it
    _key("guideline_id", "guideline.id"),
    _time("created_at"),
    UniqueConstraint("assignment_id", "revision"),
    UniqueConstraint("assignment_id", "idempotency_key"),
    CheckConstraint("revision >= 1", name="revision_positive"),
    CheckConstraint("confidence IS NULL OR confidence BETWEEN 1 AND 5", name="confidence"),
    CheckConstraint("active_ms IS NULL OR active_ms >= 0", name="active"),
)
submission_text = Table(
    "submission_text",
    metadata,
    _key("submission_id", "submission.id", primary=True),
    Column("field", String(24), primary_key=True),
    Column("body", Text),
    _time("erased_at", null=True),
    CheckConstraint("field IN ('demonstration', 'reason')", name="field_known"),
    CheckConstraint("(body IS NULL) = (erased_at IS NOT NULL)", name="erased_dated"),
)
ranking_entry = Table(
    "ranking_entry",
    metadata,
    _key("submission_id", "submission.id", primary=True),
    _key("response_id", "response.id", primary=True),
    Column("tier", SmallInteger, nullable=False),  # 1 is best, equal numbers are ties, no gaps
    CheckConstraint(f"tier BETWEEN 1 AND {MAX_RESPONSES}", name="tier"),
)
flag_entry = Table(
    "flag_entry",
    metadata,
    _key("submission_id", "submission.id", primary=True),
    _key("response_id", "response.id", primary=True),
    Column("flag", String(40), primary_key=True),
)
submission_event = Table(
    "submission_event",
    metadata,
    _id(),
    _key("submission_id", "submission.id"),
    *_one_of("kind", "withdrawn", "voided", "restored"),
    Column("reason", String(200), nullable=False),
    _key("member_id", "member.id", null=True),
    _time("created_at"),
    UniqueConstraint("submission_id", "created_at"),  # so that there is one last event
)
gold_result = Table(
    "gold_result",
    metadata,
    _key("submission_id", "submission.id", primary=True),
    Column("score", Float, nullable=False),
    Column("passed", Boolean, nullable=False),
    _time("created_at"),
    CheckConstraint("score BETWEEN 0 AND 1", name="score"),
)
# A reviewer's own judgment of a task people disagreed on, and why. It never replaces theirs.
adjudication = Table(
    "adjudication",
    metadata,
    _id(),
    _key("task_id", "task.id"),
    _key("member_id", "member.id"),
    Column("tiers", _JSON, nullable=False),  # response id -> tier
    *_one_of("category", "ambiguous", "mistake", "guideline", "taste", "bad_data"),
    Column("note", Text, nullable=False, server_default=""),
    _time("created_at"),
    UniqueConstraint("task_id", "member_id"),
)

# --- data sets and their use --------------------------------------------------------------------------------------

snapshot = Table(
    "snapshot",
    metadata,
    _id(),
    Column("name", String(120), nullable=False),
    Column("version", Integer, nullable=False),
    *_one_of("kind", "demonstrations", "rankings", "comparisons"),
    Column("recipe", _JSON, nullable=False),  # feedback.data.recipe.Recipe
    Column("rows", Integer, nullable=False),
    Column("content_sha256", _SHA256, nullable=False),  # of the file before compression
    Column("manifest", _JSON, nullable=False),
    _key("created_by", "member.id", null=True),
    _time("created_at"),
    UniqueConstraint("name", "version"),
)
snapshot_source = Table(
    "snapshot_source",
    metadata,
    _key("snapshot_id", "snapshot.id", primary=True),
    Column("row_no", Integer, primary_key=True),
    _key("submission_id", "submission.id", primary=True),
    Index("ix_snapshot_source_submission", "submission_id"),
)
snapshot_use = Table(
    "snapshot_use",
    metadata,
    _id(),
    _key("snapshot_id", "snapshot.id"),
    Column("run", String(400), nullable=False),
    Column("stage", String(40), nullable=False),
    Column("model_sha256", _SHA256),
    _time("created_at"),
    UniqueConstraint("snapshot_id", "run", "stage"),
)

# --- what happened ------------------------------------------------------------------------------------------------

audit_event = Table(
    "audit_event",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    _time("at"),
    _key("member_id", "member.id", null=True),  # nobody: the command line
    Column("action", String(60), nullable=False),
    Column("object_type", String(40), nullable=False),
    Column("object_id", String(64), nullable=False),
    Column("detail", _JSON, nullable=False),  # ids, names of fields, numbers: no free text of anybody
    Column("previous_hash", _SHA256, nullable=False),
    Column("hash", _SHA256, nullable=False, unique=True),
    sqlite_autoincrement=True,
)

APPEND_ONLY = (
    submission,
    ranking_entry,
    flag_entry,
    submission_event,
    gold_result,
    adjudication,
    snapshot,
    snapshot_source,
    snapshot_use,
    audit_event,
)
