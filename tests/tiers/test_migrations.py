"""A database of any earlier schema becomes today's, with its rows; a newer one is left alone."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from triptych.errors import StorageError
from triptych.tiers.store import migrations, tables, usage
from triptych.tiers.store.database import Database


def test_the_migrations_lead_exactly_to_the_tables_that_the_code_knows(migrated: Path) -> None:
    assert usage.table.metadata is tables.metadata
    engine = create_engine(f"sqlite:///{migrated}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        found = compare_metadata(context, tables.metadata)
    engine.dispose()
    extra = [change for change in found if change[0] not in ("add_index", "remove_index")]
    assert extra == []


async def test_rows_of_the_first_schema_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    database = Database(f"sqlite:///{path}")
    await migrations.upgrade(database, "0001")
    with sqlite3.connect(path) as raw:
        raw.execute(
            "INSERT INTO contents (request_id, company_id, created_at, messages, answer, consent)"
            " VALUES ('r', 'acme', 1.0, '[]', 'kept', 'improve:1')"
        )
        raw.execute(
            "INSERT INTO spaces (name, provider, address, models, key_name, revision, is_active,"
            " version, updated_at, updated_by)"
            " VALUES ('s', 'hf_spaces', 'a/b', '{}', '', '', 1, 1, 1.0, 't')"
        )
    assert await migrations.upgrade(database) is True
    assert await migrations.upgrade(database) is False
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT answer, classification FROM contents").fetchall() == [
            ("kept", "personal")
        ]
        assert raw.execute("SELECT name, hardware FROM spaces").fetchall() == [("s", "")]
    await database.close()


async def test_a_database_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'new.db'}")
    await migrations.upgrade(database)
    with sqlite3.connect(tmp_path / "new.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StorageError, match="9999"):
        await migrations.upgrade(database)
    await database.close()
