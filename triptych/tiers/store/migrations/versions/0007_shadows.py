"""Count the copies of questions that challengers are sent; a challenger has a prompt of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "shadows",
        sa.Column("shadow_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("tier", sa.String(16), nullable=False),
        sa.Column("upstream", sa.String(64), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("error_code", sa.String(64), nullable=False),
        sa.Column("latency_s", sa.Float(), nullable=False),
        sa.Column("served_s", sa.Float(), nullable=False),
        sa.Column("refused", sa.Boolean(), nullable=False),
        sa.Column("served_refused", sa.Boolean(), nullable=False),
        sa.Column("agreement", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("shadow_id", name=op.f("pk_shadows")),
    )
    op.create_index("ix_shadows_tier", "shadows", ["tier", "created_at"])
    if op.get_bind().dialect.name == "postgresql":
        # SQLite keeps no length of a text.
        op.alter_column("prompts", "tier", type_=sa.String(32), existing_nullable=False)
