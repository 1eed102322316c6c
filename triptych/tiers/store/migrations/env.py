"""How Alembic runs here: always on a connection that `upgrade` hands in."""

from __future__ import annotations

from alembic import context

from triptych.tiers.store import tables  # noqa: F401  registers its tables in the schema
from triptych.tiers.store.personal_data import responses  # noqa: F401  and this one its own
from triptych.tiers.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,
    compare_type=False,
)
context.run_migrations()
