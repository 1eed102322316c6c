"""Keep sums of requests per minute and hour, and find rare requests among many."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NAMES = {
    "company_id": 64, "tier_served": 16, "provider": 16, "upstream": 64, "outcome": 16,
    "feature": 64,
}  # fmt: skip
_COUNTED = (
    "requests", "failures", "fallbacks", "cached", "input_tokens", "output_tokens",
    "cost_microusd", "reference_microusd", "timed",
)  # fmt: skip
_FOUND_BY = ("key_id", "tier_asked", "tier_served", "provider", "upstream", "outcome")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "usage",
        sa.Column("span_s", sa.Integer(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.String(length=size), nullable=False) for name, size in _NAMES.items()),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTED),
        *(sa.Column(n, sa.Float(), nullable=False)
          for n in ("latency_s", "overhead_s", "latency_max_s")),
        sa.PrimaryKeyConstraint("span_s", "start", *_NAMES, name=op.f("pk_usage")),
    )  # fmt: skip
    for span_s in (60, 3600):
        op.execute(_sums(span_s))
    for name in _FOUND_BY:
        op.create_index(f"ix_requests_{name}", "requests", [name, "created_at", "request_id"])
    op.create_index(
        "ix_requests_error_code", "requests", ["error_code", "created_at", "request_id"],
        sqlite_where=sa.text("error_code IS NOT NULL"),
        postgresql_where=sa.text("error_code IS NOT NULL"),
    )  # fmt: skip
    op.create_index("ix_feedback_created", "feedback", ["created_at"])
    if op.get_bind().dialect.name == "postgresql":
        whose = "current_setting('triptych.company', true)"
        theirs = f"({whose} = '*' OR company_id = {whose})"
        op.execute("ALTER TABLE usage ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE usage FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY by_company ON usage USING {theirs} WITH CHECK {theirs}")


def _sums(span_s: int) -> str:
    """Sum what was recorded before."""
    start = f"CAST(created_at / {span_s} AS INTEGER) * {span_s}"
    if op.get_bind().dialect.name == "postgresql":
        start = f"CAST(FLOOR(created_at / {span_s}) AS INTEGER) * {span_s}"
    names = ", ".join(f"COALESCE({name}, '') AS {name}" for name in _NAMES)
    tokens = ", ".join(f"SUM(COALESCE({name}, 0))" for name in _COUNTED[4:8])
    groups = ", ".join(str(n) for n in range(1, 3 + len(_NAMES)))
    return (
        f"INSERT INTO usage SELECT {span_s}, {start} AS start, {names}, COUNT(*),"  # noqa: S608
        " SUM(CASE WHEN outcome IN ('failed', 'interrupted') THEN 1 ELSE 0 END),"
        " SUM(CASE WHEN COALESCE(fallback_reason, '') <> '' THEN 1 ELSE 0 END),"
        f" SUM(CASE WHEN cached THEN 1 ELSE 0 END), {tokens},"
        " SUM(CASE WHEN latency_s IS NULL THEN 0 ELSE 1 END),"
        " SUM(COALESCE(latency_s, 0)), SUM(COALESCE(overhead_s, 0)), MAX(COALESCE(latency_s, 0))"
        f" FROM requests GROUP BY {groups}"
    )
