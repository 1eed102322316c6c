"""Create the tables of the first release; older development states are not migrated."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = None

_FOUND_BY = ("key_id", "tier_asked", "tier_served", "provider", "upstream", "outcome")


def upgrade() -> None:
    """Apply."""
    _companies()
    _users()
    _api_keys()
    _attempts()
    _audit()
    _changes()
    _consents()
    _contents()
    _deployments()
    _feedback()
    _flag_overrides()
    _flags()
    _model_registry()
    _prompts()
    _requests()
    _sealed_secrets()
    _spaces()
    _memberships()


def _columns(
    kind: sa.types.TypeEngine[Any], *names: str, nullable: bool = False
) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=nullable) for name in names]


def _companies() -> None:
    op.create_table(
        "companies",
        sa.Column("company_id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("industry", sa.Text(), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("allow_external", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("deleted_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("company_id", name=op.f("pk_companies")),
    )


def _users() -> None:
    op.create_table(
        "users",
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("deleted_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_users")),
    )


def _api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        *_columns(sa.String(16), "kind", "role"),
        *_columns(sa.String(64), "user_id", "company_id", nullable=True),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        *_columns(sa.Float(), "expires_at", "revoked_at", nullable=True),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys_digest")),
    )
    op.create_index(op.f("ix_api_keys_company_id"), "api_keys", ["company_id"])


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("company_id", sa.String(64), nullable=True),
        sa.Column("upstream", sa.String(64), nullable=False),
        *_columns(sa.String(16), "provider", "tier"),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("error_code", sa.String(64), nullable=True),
        *_columns(sa.Float(), "latency_s", "ttft_s", nullable=True),
        sa.PrimaryKeyConstraint("request_id", "number", name=op.f("pk_attempts")),
    )
    op.create_index("ix_attempts_created", "attempts", ["created_at"])


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("company_id", sa.String(64), nullable=True),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(160), nullable=False),
        *_columns(sa.JSON(), "before", "after", nullable=True),
        *_columns(sa.String(64), "previous_hash", "hash"),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_subject", "audit", ["subject", "sequence"])


def _changes() -> None:
    op.create_table(
        "changes",
        sa.Column("topic", sa.String(32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("topic", name=op.f("pk_changes")),
    )


def _consents() -> None:
    op.create_table(
        "consents",
        sa.Column("consent_id", sa.Integer(), autoincrement=True, nullable=False),
        *_columns(sa.String(64), "company_id", "user_id", nullable=True),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("granted", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("consent_id", name=op.f("pk_consents")),
    )
    op.create_index(
        "ix_consents_subject", "consents", ["company_id", "user_id", "purpose", "created_at"]
    )


def _contents() -> None:
    op.create_table(
        "contents",
        sa.Column("request_id", sa.String(64), nullable=False),
        *_columns(sa.String(64), "company_id", "user_id", nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("consent", sa.String(64), nullable=False),
        sa.Column("classification", sa.String(16), nullable=False, server_default="personal"),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_contents")),
    )
    op.create_index(op.f("ix_contents_company_id"), "contents", ["company_id"])
    op.create_index(op.f("ix_contents_created_at"), "contents", ["created_at"])
    op.create_index(op.f("ix_contents_user_id"), "contents", ["user_id"])


def _deployments() -> None:
    op.create_table(
        "deployments",
        *_columns(sa.String(64), "deployment_id", "space"),
        sa.Column("model_id", sa.String(64), nullable=True),
        sa.Column("revision", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("log", sa.Text(), nullable=False),
        *_columns(sa.Float(), "created_at", "updated_at"),
        sa.Column("model", sa.String(200), nullable=False, server_default=""),
        sa.Column("actor", sa.String(64), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("deployment_id", name=op.f("pk_deployments")),
    )
    op.create_index("ix_deployments_space", "deployments", ["space", "created_at"])


def _feedback() -> None:
    op.create_table(
        "feedback",
        sa.Column("feedback_id", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        *_columns(
            sa.String(64), "request_id", "conversation_id", "company_id", "user_id", nullable=True
        ),
        sa.Column("author", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("model", sa.String(128), nullable=True),
        sa.Column("revision", sa.String(64), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("is_latest", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("feedback_id", "version", name=op.f("pk_feedback")),
    )
    op.create_index("ix_feedback_company", "feedback", ["company_id", "created_at"])
    op.create_index("ix_feedback_created", "feedback", ["created_at"])
    op.create_index("ix_feedback_request", "feedback", ["request_id"])


def _flag_overrides() -> None:
    op.create_table(
        "flag_overrides",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("subject_id", sa.String(64), nullable=False),
        sa.Column("variant", sa.String(32), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("updated_by", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("key", "scope", "subject_id", name=op.f("pk_flag_overrides")),
    )


def _flags() -> None:
    op.create_table(
        "flags",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("updated_by", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_flags")),
    )


def _model_registry() -> None:
    op.create_table(
        "model_registry",
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("tier", sa.String(16), nullable=False),
        sa.Column("company_id", sa.String(64), nullable=True),
        *_columns(sa.String(128), "hf_model_id", "hf_space_id", nullable=True),
        sa.Column("hf_space_url", sa.Text(), nullable=True),
        *_columns(
            sa.String(64), "revision", "parent_model_id", "dataset_hash", "run_id", nullable=True
        ),
        *_columns(sa.JSON(), "evaluation", "hyperparameters", nullable=True),
        *_columns(sa.Boolean(), "is_active", "is_tainted"),
        *_columns(sa.Float(), "created_at", "updated_at"),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_model_registry")),
        sa.UniqueConstraint(
            "name", "revision", "company_id", name="uq_model_registry_name_revision_company_id"
        ),
    )
    op.create_index(op.f("ix_model_registry_company_id"), "model_registry", ["company_id"])


def _prompts() -> None:
    op.create_table(
        "prompts",
        sa.Column("tier", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("tier", "version", name=op.f("pk_prompts")),
    )


def _requests() -> None:
    op.create_table(
        "requests",
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        *_columns(sa.String(64), "company_id", "user_id", nullable=True),
        sa.Column("key_id", sa.String(32), nullable=False),
        *_columns(sa.String(64), "feature", "conversation_id", "context_label", nullable=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("tier_asked", sa.String(16), nullable=False),
        sa.Column("model_asked", sa.String(128), nullable=False),
        *_columns(sa.String(16), "tier_served", "provider", nullable=True),
        sa.Column("upstream", sa.String(64), nullable=True),
        sa.Column("model", sa.String(128), nullable=True),
        *_columns(
            sa.String(64), "revision", "reason", "fallback_reason", "selector", nullable=True
        ),
        sa.Column("flags", sa.JSON(), nullable=True),
        sa.Column("flags_version", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("finish_reason", sa.String(32), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        *_columns(sa.Integer(), "input_tokens", "output_tokens", nullable=True),
        sa.Column("tokens_source", sa.String(16), nullable=False),
        *_columns(sa.BigInteger(), "cost_microusd", "reference_microusd", nullable=True),
        *_columns(sa.Float(), "latency_s", "ttft_s", "overhead_s", nullable=True),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("truncated_messages", sa.Integer(), nullable=False),
        sa.Column("consent", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_requests")),
    )
    op.create_index("ix_requests_company", "requests", ["company_id", "created_at", "request_id"])
    op.create_index("ix_requests_conversation", "requests", ["conversation_id"])
    op.create_index("ix_requests_created", "requests", ["created_at", "request_id"])
    op.create_index("ix_requests_user", "requests", ["user_id", "created_at"])
    for name in _FOUND_BY:
        op.create_index(f"ix_requests_{name}", "requests", [name, "created_at", "request_id"])
    op.create_index(
        "ix_requests_error_code", "requests", ["error_code", "created_at", "request_id"],
        sqlite_where=sa.text("error_code IS NOT NULL"),
        postgresql_where=sa.text("error_code IS NOT NULL"),
    )  # fmt: skip


def _sealed_secrets() -> None:
    op.create_table(
        "sealed_secrets",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.String(16), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("updated_by", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sealed_secrets")),
    )


def _spaces() -> None:
    op.create_table(
        "spaces",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(16), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("company_id", sa.String(64), nullable=True),
        sa.Column("key_name", sa.String(64), nullable=False),
        sa.Column("external", sa.Boolean(), nullable=True),
        sa.Column("revision", sa.String(64), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("updated_by", sa.String(64), nullable=False),
        sa.Column("hardware", sa.String(64), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_spaces")),
    )
    op.create_index(op.f("ix_spaces_company_id"), "spaces", ["company_id"])


def _memberships() -> None:
    op.create_table(
        "memberships",
        *_columns(sa.String(64), "user_id", "company_id"),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["company_id"], ["companies.company_id"], name=op.f("fk_memberships_company_id")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.user_id"], name=op.f("fk_memberships_user_id")
        ),
        sa.PrimaryKeyConstraint("user_id", "company_id", name=op.f("pk_memberships")),
    )
