"""Add budgets, requests over personal data, and row-level security."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TENANT_TABLES = (
    "companies", "memberships", "api_keys", "consents", "requests", "attempts", "contents",
    "feedback", "model_registry", "budgets", "privacy_requests",
)  # fmt: skip


def upgrade() -> None:
    """Apply."""
    _columns()
    _spending()
    _privacy()
    if op.get_bind().dialect.name == "postgresql":
        _row_level_security()


def _columns() -> None:
    op.add_column(
        "contents",
        sa.Column(
            "classification", sa.String(length=16), nullable=False, server_default="personal"
        ),
    )
    op.add_column(
        "spaces", sa.Column("hardware", sa.String(length=64), nullable=False, server_default="")
    )
    op.add_column(
        "deployments", sa.Column("model", sa.String(length=200), nullable=False, server_default="")
    )
    op.add_column(
        "deployments", sa.Column("actor", sa.String(length=64), nullable=False, server_default="")
    )
    op.create_index("ix_deployments_space", "deployments", ["space", "created_at"])


def _spending() -> None:
    op.drop_table("spend")
    op.create_table(
        "spend",
        sa.Column("subject", sa.String(length=96), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_microusd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "day", name=op.f("pk_spend")),
    )
    op.create_table(
        "budgets",
        sa.Column("subject", sa.String(length=96), nullable=False),
        sa.Column("period", sa.String(length=8), nullable=False),
        sa.Column("company_id", sa.String(length=64), nullable=True),
        sa.Column("max_tokens", sa.BigInteger(), nullable=True),
        sa.Column("max_cost_microusd", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("updated_by", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("subject", "period", name=op.f("pk_budgets")),
    )
    op.create_index(op.f("ix_budgets_company_id"), "budgets", ["company_id"])
    op.create_table(
        "holds",
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=96), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_microusd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "subject", name=op.f("pk_holds")),
    )
    op.create_index("ix_holds_subject", "holds", ["subject"])


def _privacy() -> None:
    op.create_table(
        "privacy_requests",
        sa.Column("privacy_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("company_id", sa.String(length=64), nullable=True),
        sa.Column("user_id", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("asked_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("privacy_id", name=op.f("pk_privacy_requests")),
    )
    for column in ("company_id", "user_id"):
        name = op.f(f"ix_privacy_requests_{column}")
        op.create_index(name, "privacy_requests", [column])
    op.create_table(
        "legal_holds",
        sa.Column("subject", sa.String(length=96), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_legal_holds")),
    )
    op.create_table(
        "chores",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_chores")),
    )


def _row_level_security() -> None:
    """Let a session see one company's rows, or with `*` everybody's; without a word, none."""
    whose = "current_setting('triptych.company', true)"
    for table in _TENANT_TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY by_company ON {table}"
            f" USING ({whose} = '*' OR company_id = {whose})"
            f" WITH CHECK ({whose} = '*' OR company_id = {whose})"
        )
