"""Keep answers of `/v1/responses` that a client asked to keep."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "kept_responses",
        sa.Column("response_id", sa.String(64), nullable=False),
        sa.Column("company_id", sa.String(64), nullable=True),
        sa.Column("user_id", sa.String(64), nullable=True),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("previous_id", sa.String(64), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("classification", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("response_id", name=op.f("pk_kept_responses")),
    )
    for column in ("company_id", "user_id"):
        op.create_index(op.f(f"ix_kept_responses_{column}"), "kept_responses", [column])
    op.create_index("ix_kept_responses_created", "kept_responses", ["classification", "created_at"])
    if op.get_bind().dialect.name == "postgresql":
        whose = "current_setting('triptych.company', true)"
        op.execute("ALTER TABLE kept_responses ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE kept_responses FORCE ROW LEVEL SECURITY")
        op.execute(
            "CREATE POLICY by_company ON kept_responses"
            f" USING ({whose} = '*' OR company_id = {whose})"
            f" WITH CHECK ({whose} = '*' OR company_id = {whose})"
        )
