"""Limit single keys by requests, tokens and models; mask a company's data before it leaves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Apply."""
    op.add_column("api_keys", sa.Column("limits", sa.JSON(), nullable=True))
    op.add_column(
        "companies",
        sa.Column("mask_external", sa.Boolean(), nullable=False, server_default="0"),
    )
