"""Note which key a change of the accounts was about, and what workers found out of upstreams."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "key_changes",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_key_changes")),
    )
    op.create_table(
        "breaker_news",
        sa.Column("upstream", sa.String(64), nullable=False),
        sa.Column("news", sa.String(16), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.Column("worker", sa.String(96), nullable=False),
        sa.PrimaryKeyConstraint("upstream", name=op.f("pk_breaker_news")),
    )
