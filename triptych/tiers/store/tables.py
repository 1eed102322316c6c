"""The tables, as SQLAlchemy Core sees them; `migrations` is how a database gets them.

Rows of companies (`info=TENANT`) need a scoped statement. Times: Unix seconds, money: micro-USD.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from triptych.tiers.store.schema import TENANT, metadata

changes = Table(
    "changes",
    metadata,
    Column("topic", String(32), primary_key=True),
    Column("version", Integer, nullable=False),
)
"""One row per topic that workers keep in memory; a raised version makes them read it again."""

companies = Table(
    "companies",
    metadata,
    Column("company_id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("industry", Text),
    Column("facts", JSON, nullable=False),
    Column("allow_external", Boolean, nullable=False, default=False),
    Column("mask_external", Boolean, nullable=False, default=False, server_default="0"),
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),
    info=TENANT,
)

users = Table(
    "users",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),
)

memberships = Table(
    "memberships",
    metadata,
    Column("user_id", String(64), ForeignKey("users.user_id"), primary_key=True),
    Column("company_id", String(64), ForeignKey("companies.company_id"), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    info=TENANT,
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String(32), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("role", String(16), nullable=False),
    Column("user_id", String(64)),
    Column("company_id", String(64), index=True),
    Column("scopes", JSON, nullable=False),
    Column("limits", JSON),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    info=TENANT,
)

consents = Table(
    "consents",
    metadata,
    Column("consent_id", Integer, primary_key=True, autoincrement=True),
    Column("company_id", String(64)),
    Column("user_id", String(64)),
    Column("purpose", String(32), nullable=False),
    Column("granted", Boolean, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Index("ix_consents_subject", "company_id", "user_id", "purpose", "created_at"),
    info=TENANT,
)
"""History, newest row wins: serve, improve, abstraction."""

requests = Table(
    "requests",
    metadata,
    Column("request_id", String(64), primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("company_id", String(64)),
    Column("user_id", String(64)),
    Column("key_id", String(32), nullable=False),
    Column("feature", String(64)),
    Column("conversation_id", String(64)),
    Column("context_label", String(64)),
    Column("kind", String(16), nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("tier_asked", String(16), nullable=False),
    Column("model_asked", String(128), nullable=False),
    Column("tier_served", String(16)),
    Column("provider", String(16)),
    Column("upstream", String(64)),
    Column("model", String(128)),
    Column("revision", String(64)),
    Column("reason", String(64)),
    Column("fallback_reason", String(64)),
    Column("selector", String(64)),
    Column("flags", JSON),
    Column("flags_version", Integer),
    Column("outcome", String(16), nullable=False),
    Column("status", Integer, nullable=False),
    Column("error_code", String(64)),
    Column("finish_reason", String(32)),
    Column("attempts", Integer, nullable=False),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("tokens_source", String(16), nullable=False),
    Column("cost_microusd", BigInteger),
    Column("reference_microusd", BigInteger),
    Column("latency_s", Float),
    Column("ttft_s", Float),
    Column("overhead_s", Float),
    Column("cached", Boolean, nullable=False),
    Column("truncated_messages", Integer, nullable=False),
    Column("consent", String(64)),
    Column("evidence", JSON),
    Column("node", String(64)),
    Index("ix_requests_created", "created_at", "request_id"),
    Index("ix_requests_company", "company_id", "created_at", "request_id"),
    Index("ix_requests_user", "user_id", "created_at"),
    Index("ix_requests_conversation", "conversation_id"),
    info=TENANT,
)

attempts = Table(
    "attempts",
    metadata,
    Column("request_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("company_id", String(64)),
    Column("upstream", String(64), nullable=False),
    Column("provider", String(16), nullable=False),
    Column("tier", String(16), nullable=False),
    Column("model", String(128), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("status", Integer, nullable=False),
    Column("error_code", String(64)),
    Column("latency_s", Float),
    Column("ttft_s", Float),
    Index("ix_attempts_created", "created_at"),
    info=TENANT,
)

contents = Table(
    "contents",
    metadata,
    Column("request_id", String(64), primary_key=True),
    Column("company_id", String(64), index=True),
    Column("user_id", String(64), index=True),
    Column("created_at", Float, nullable=False, index=True),
    Column("messages", JSON, nullable=False),
    Column("answer", Text, nullable=False),
    Column("consent", String(64), nullable=False),
    Column("classification", String(16), nullable=False, server_default="personal"),
    info=TENANT,
)
"""Redacted texts kept for training, the consent to it, and how personal they were before."""

feedback = Table(
    "feedback",
    metadata,
    Column("feedback_id", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("request_id", String(64)),
    Column("conversation_id", String(64)),
    Column("company_id", String(64)),
    Column("user_id", String(64)),
    Column("author", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("value", JSON, nullable=False),
    Column("model", String(128)),
    Column("revision", String(64)),
    Column("created_at", Float, nullable=False),
    Column("is_latest", Boolean, nullable=False),
    Index("ix_feedback_request", "request_id"),
    Index("ix_feedback_company", "company_id", "created_at"),
    info=TENANT,
)

flags = Table(
    "flags",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("definition", JSON, nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("updated_by", String(64), nullable=False),
)

flag_overrides = Table(
    "flag_overrides",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("scope", String(16), primary_key=True),
    Column("subject_id", String(64), primary_key=True),
    Column("variant", String(32), nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("updated_by", String(64), nullable=False),
)

prompts = Table(
    "prompts",
    metadata,
    Column("tier", String(32), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("text", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", String(64), nullable=False),
)

spaces = Table(
    "spaces",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("provider", String(16), nullable=False),
    Column("address", Text, nullable=False),
    Column("models", JSON, nullable=False),
    Column("company_id", String(64), index=True),
    Column("key_name", String(64), nullable=False),
    Column("external", Boolean),
    Column("revision", String(64), nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    Column("hardware", String(64), nullable=False, server_default=""),
    Column("updated_at", Float, nullable=False),
    Column("updated_by", String(64), nullable=False),
)
"""Upstreams that admins entered; the originals' `hf_spaces_config`."""

deployments = Table(
    "deployments",
    metadata,
    Column("deployment_id", String(64), primary_key=True),
    Column("space", String(64), nullable=False),
    Column("model_id", String(64)),
    Column("revision", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("log", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("model", String(200), nullable=False, server_default=""),
    Column("actor", String(64), nullable=False, server_default=""),
    Index("ix_deployments_space", "space", "created_at"),
)
"""What became of every deployment; `live` only after the Space itself answered with it."""

model_registry = Table(
    "model_registry",
    metadata,
    Column("model_id", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("tier", String(16), nullable=False),
    Column("company_id", String(64), index=True),
    Column("hf_model_id", String(128)),
    Column("hf_space_id", String(128)),
    Column("hf_space_url", Text),
    Column("revision", String(64)),
    Column("parent_model_id", String(64)),
    Column("dataset_hash", String(64)),
    Column("run_id", String(64)),
    Column("evaluation", JSON),
    Column("hyperparameters", JSON),
    Column("is_active", Boolean, nullable=False),
    Column("is_tainted", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("name", "revision", "company_id"),
    info=TENANT,
)

sealed_secrets = Table(
    "sealed_secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("hint", String(16), nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("updated_by", String(64), nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("created_at", Float, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("company_id", String(64)),
    Column("action", String(64), nullable=False),
    Column("subject", String(160), nullable=False),
    Column("before", JSON),
    Column("after", JSON),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("ix_audit_subject", "subject", "sequence"),
)
"""Append-only and hash-chained."""

spend = Table(
    "spend",
    metadata,
    Column("subject", String(96), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost_microusd", BigInteger, nullable=False),
    Column("node", String(64), primary_key=True, server_default=""),
)
"""What a subject used on a day since 1970 (UTC), by each node in a row of its own."""

budgets = Table(
    "budgets",
    metadata,
    Column("subject", String(96), primary_key=True),
    Column("period", String(8), primary_key=True),
    Column("company_id", String(64), index=True),
    Column("max_tokens", BigInteger),
    Column("max_cost_microusd", BigInteger),
    Column("version", Integer, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("updated_by", String(64), nullable=False),
    info=TENANT,
)
"""How much a subject may use in a day, a month, or at all; null: without a limit."""

holds = Table(
    "holds",
    metadata,
    Column("request_id", String(64), primary_key=True),
    Column("subject", String(96), primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost_microusd", BigInteger, nullable=False),
    Index("ix_holds_subject", "subject"),
)
"""What requests in flight have set aside under a budget; gone with their record."""

privacy_requests = Table(
    "privacy_requests",
    metadata,
    Column("privacy_id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("company_id", String(64), index=True),
    Column("user_id", String(64), index=True),
    Column("state", String(16), nullable=False),
    Column("details", JSON, nullable=False),
    Column("result", JSON),
    Column("asked_by", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("finished_at", Float),
    info=TENANT,
)
"""Requests to export, erase, restrict or correct what is stored of a user or a company."""

legal_holds = Table(
    "legal_holds",
    metadata,
    Column("subject", String(96), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", String(64), nullable=False),
)
"""Whose records may not be erased nor run out, for a reason outside this program."""

background_tasks = Table(
    "background_tasks",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("report", JSON),
)
"""When one worker last did a task for all workers, and its report."""
