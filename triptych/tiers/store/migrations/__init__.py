"""Schema versions of the gateway's database, oldest first; append-only.

`upgrade` brings a database to the newest one. Alembic is only loaded when there is something
to do, so that an ordinary start stays quick and small.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

from triptych.errors import StorageError
from triptych.tiers.store.database import Database

FOLDER = Path(__file__).parent
REFUSED = ("schema_too_old", "schema_too_new")
"""Codes of errors that waiting does not mend."""


def newest() -> str:
    """Return the newest revision: the number that starts the last file's name."""
    return max(_revisions())


def oldest() -> str:
    """Return the oldest revision that can be brought up to date."""
    return min(_revisions())


def _revisions() -> list[str]:
    return [path.name.split("_")[0] for path in (FOLDER / "versions").glob("[0-9]*_*.py")]


def _new_database(database: Database) -> str:
    """Return the command that puts the old database aside, so that a new one is made."""
    if database.is_sqlite:
        path = database.url.database
        return f"put it aside and start again: mv {path} {path}.old"
    return "make an empty one and name it in gateway.database_url: createdb triptych_new"


async def current(database: Database) -> str | None:
    """Return the revision a database is at; None when it is empty."""
    async with database.engine.connect() as connection:
        found: str | None = await connection.run_sync(_current)
        return found


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


async def upgrade(database: Database, revision: str = "head") -> bool:
    """Bring the database to a revision; several starting workers take turns.

    Returns: whether anything was done.
    Raises: StorageError when the database is newer than this program, or was made before the
    first release.
    """
    at = await current(database)
    if at == newest() and revision == "head":
        return False
    if at is not None and at < oldest():
        raise StorageError(
            f"the database has schema {at}, from before the first release; this program reads"
            f" {oldest()} and newer",
            hint=_new_database(database),
            code="schema_too_old",
        )
    if at is not None and at > newest():
        raise StorageError(
            f"the database is at schema {at}, this program knows {newest()}",
            hint="start the newer version of triptych",
            code="schema_too_new",
        )
    async with database.engine.connect() as connection:
        if database.is_sqlite:
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            await connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7870)")
            # a migration of data reads the rows of every company
            await connection.exec_driver_sql("SELECT set_config('triptych.company', '*', true)")
        await connection.run_sync(_upgrade, revision)
        await connection.commit()
    return True


def _upgrade(connection: Connection, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    attributes: dict[str, Any] = config.attributes
    attributes["connection"] = connection
    command.upgrade(config, revision)
