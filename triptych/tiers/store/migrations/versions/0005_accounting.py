"""Create the tables of budgets, personal data and usage, and the row-level security of all."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_TENANT_TABLES = (
    "companies", "memberships", "api_keys", "consents", "requests", "attempts", "contents",
    "feedback", "model_registry", "budgets", "privacy_requests", "usage",
)  # fmt: skip
_USAGE_NAMES = {
    "company_id": 64, "tier_served": 16, "provider": 16, "upstream": 64, "outcome": 16,
    "feature": 64,
}  # fmt: skip
_COUNTED = (
    "requests", "failures", "fallbacks", "cached", "input_tokens", "output_tokens",
    "cost_microusd", "reference_microusd", "timed",
)  # fmt: skip


def upgrade() -> None:
    """Apply."""
    _spending()
    _privacy()
    _usage()
    if op.get_bind().dialect.name == "postgresql":
        _row_level_security()


def _columns(
    kind: sa.types.TypeEngine[Any], *names: str, nullable: bool = False
) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=nullable) for name in names]


def _spending() -> None:
    op.create_table(
        "spend",
        sa.Column("subject", sa.String(96), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        *_columns(sa.BigInteger(), "requests", "tokens", "cost_microusd"),
        sa.PrimaryKeyConstraint("subject", "day", name=op.f("pk_spend")),
    )
    op.create_table(
        "budgets",
        sa.Column("subject", sa.String(96), nullable=False),
        sa.Column("period", sa.String(8), nullable=False),
        sa.Column("company_id", sa.String(64), nullable=True),
        *_columns(sa.BigInteger(), "max_tokens", "max_cost_microusd", nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("updated_by", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("subject", "period", name=op.f("pk_budgets")),
    )
    op.create_index(op.f("ix_budgets_company_id"), "budgets", ["company_id"])
    op.create_table(
        "holds",
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(96), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        *_columns(sa.BigInteger(), "tokens", "cost_microusd"),
        sa.PrimaryKeyConstraint("request_id", "subject", name=op.f("pk_holds")),
    )
    op.create_index("ix_holds_subject", "holds", ["subject"])


def _privacy() -> None:
    op.create_table(
        "privacy_requests",
        sa.Column("privacy_id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        *_columns(sa.String(64), "company_id", "user_id", nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("asked_by", sa.String(64), nullable=False),
        *_columns(sa.Float(), "created_at", "updated_at"),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("privacy_id", name=op.f("pk_privacy_requests")),
    )
    for column in ("company_id", "user_id"):
        name = op.f(f"ix_privacy_requests_{column}")
        op.create_index(name, "privacy_requests", [column])
    op.create_table(
        "legal_holds",
        sa.Column("subject", sa.String(96), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_legal_holds")),
    )
    op.create_table(
        "background_tasks",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_background_tasks")),
    )


def _usage() -> None:
    op.create_table(
        "usage",
        *_columns(sa.Integer(), "span_s", "start"),
        *(sa.Column(name, sa.String(size), nullable=False)
          for name, size in _USAGE_NAMES.items()),
        *_columns(sa.BigInteger(), *_COUNTED),
        *_columns(sa.Float(), "latency_s", "overhead_s", "latency_max_s"),
        sa.PrimaryKeyConstraint("span_s", "start", *_USAGE_NAMES, name=op.f("pk_usage")),
    )  # fmt: skip


def _row_level_security() -> None:
    """Let a session see the rows of one company, of all with `*`, of none without the setting."""
    whose = "current_setting('triptych.company', true)"
    for table in _TENANT_TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY by_company ON {table}"
            f" USING ({whose} = '*' OR company_id = {whose})"
            f" WITH CHECK ({whose} = '*' OR company_id = {whose})"
        )
