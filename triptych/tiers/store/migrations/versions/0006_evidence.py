"""Keep with a request what its answer rested on: places in documents, and no word of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply."""
    op.add_column("requests", sa.Column("evidence", sa.JSON(), nullable=True))
