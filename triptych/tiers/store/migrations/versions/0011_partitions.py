"""Keep the record of requests by days on PostgreSQL, so that a day that ran out is dropped whole.

What is there becomes one partition as it stands: no row is copied, one is only read to see that it
lies before the bound. The primary key takes in the time, as PostgreSQL asks of a partitioned table.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_KEYS = {
    "requests": ("request_id", "created_at"),
    "attempts": ("request_id", "number", "created_at"),
}
_DAY_S = 86_400


def upgrade() -> None:
    """Apply."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, key in _KEYS.items():
        _partition(table, ", ".join(key))


def _partition(table: str, key: str) -> None:
    newest = _newest(table)
    until = (int(max(newest or 0.0, time.time())) // _DAY_S + 1) * _DAY_S
    old = f"{table}_before_d{time.strftime('%Y%m%d', time.gmtime(until))}"
    indexes = _indexes(table)
    op.execute(f"ALTER TABLE {table} RENAME TO {old}")
    op.execute(f"ALTER TABLE {old} DROP CONSTRAINT pk_{table}")
    op.execute(f"ALTER TABLE {old} ADD CONSTRAINT pk_{old} PRIMARY KEY ({key})")
    for name, _ in indexes:
        op.execute(f'ALTER INDEX "{name}" RENAME TO "{name}_before"')
    made = f"CREATE TABLE {table} (LIKE {old} INCLUDING DEFAULTS)"
    op.execute(f"{made} PARTITION BY RANGE (created_at)")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT pk_{table} PRIMARY KEY ({key})")
    for _, definition in indexes:
        op.execute(definition)
    if newest is None:
        op.execute(f"DROP TABLE {old}")
    else:
        op.execute(
            f"ALTER TABLE {table} ATTACH PARTITION {old} FOR VALUES FROM (MINVALUE) TO ({until})"
        )
    op.execute(f"CREATE TABLE {table}_other PARTITION OF {table} DEFAULT")
    whose = "current_setting('triptych.company', true)"
    for one in (table, f"{table}_other"):
        op.execute(f"ALTER TABLE {one} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {one} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY by_company ON {one}"
            f" USING ({whose} = '*' OR company_id = {whose})"
            f" WITH CHECK ({whose} = '*' OR company_id = {whose})"
        )


def _newest(table: str) -> float | None:
    column = sa.column("created_at")
    statement = sa.select(sa.func.max(column)).select_from(sa.table(table, column))
    found: float | None = op.get_bind().execute(statement).scalar()
    return found


def _indexes(table: str) -> Sequence[tuple[str, str]]:
    """Return name and definition of every index beside the primary key's."""
    statement = sa.text(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = :table"
        " AND schemaname = current_schema() AND indexname <> :key"
    )
    rows = op.get_bind().execute(statement, {"table": table, "key": f"pk_{table}"})
    return [(row[0], row[1]) for row in rows]
