"""Keep which machine answered, count what was used per machine, and list the machines.

Rows that one machine writes are its own, so that no two machines wait for one row: sums over all
of them are made when they are read. A program of the schema before still answers beside this one;
its records wait in its spool until it is replaced (`docs/guides/scale.md`).
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_KEYS = {
    "spend": ("subject", "day"),
    "usage": (
        "span_s", "start", "company_id", "tier_served", "provider", "upstream", "outcome",
        "feature",
    ),
}  # fmt: skip


def upgrade() -> None:
    """Apply."""
    op.add_column("requests", sa.Column("node", sa.String(64), nullable=True))
    for table, key in _KEYS.items():
        if op.get_bind().dialect.name == "postgresql":
            _key_in_place(table, key)
        else:
            _key_by_copy(table, key)
    op.create_table(
        "nodes",
        sa.Column("node", sa.String(64), nullable=False),
        sa.Column("worker", sa.String(16), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("schema", sa.String(16), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("waiting", sa.Integer(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("node", "worker", name=op.f("pk_nodes")),
    )


def _key_in_place(table: str, key: tuple[str, ...]) -> None:
    op.add_column(table, sa.Column("node", sa.String(64), nullable=False, server_default=""))
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT pk_{table}")
    columns = _list((*key, "node"))
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT pk_{table} PRIMARY KEY ({columns})")


def _key_by_copy(table: str, key: tuple[str, ...]) -> None:
    """SQLite changes no primary key: the rows move into a new table."""
    columns = sa.inspect(op.get_bind()).get_columns(table)
    names = [column["name"] for column in columns]
    op.create_table(
        f"{table}_new",
        *(sa.Column(c["name"], c["type"], nullable=c["nullable"]) for c in columns),
        sa.Column("node", sa.String(64), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint(*key, "node", name=op.f(f"pk_{table}")),
    )
    old, new = (sa.table(t, *map(sa.column, names)) for t in (table, f"{table}_new"))
    op.execute(new.insert().from_select(names, sa.select(*old.c)))
    op.drop_table(table)
    op.rename_table(f"{table}_new", table)


def _list(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
