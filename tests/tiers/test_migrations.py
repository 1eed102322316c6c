"""A new database gets the tables that the code knows; too old and too new ones are left alone."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from triptych.errors import StorageError
from triptych.tiers.pipeline import shadow
from triptych.tiers.store import migrations, tables, usage
from triptych.tiers.store.database import Database


def test_the_migrations_lead_exactly_to_the_tables_that_the_code_knows(migrated: Path) -> None:
    assert usage.table.metadata is shadow.table.metadata is tables.metadata
    engine = create_engine(f"sqlite:///{migrated}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        found = compare_metadata(context, tables.metadata)
    engine.dispose()
    extra = [change for change in found if change[0] not in ("add_index", "remove_index")]
    assert extra == []


@pytest.mark.parametrize("schema", ["0001", "0003"])
async def test_a_database_from_before_the_first_release_is_left_alone_with_what_to_type(
    tmp_path: Path, schema: str
) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        raw.execute("INSERT INTO alembic_version VALUES (?)", (schema,))
    database = Database(f"sqlite:///{path}")
    with pytest.raises(StorageError, match=f"schema {schema}, from before") as caught:
        await migrations.upgrade(database)
    await database.close()
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("alembic_version",)]
    subprocess.run(caught.value.hint.partition(": ")[2].split(), check=True)
    assert await migrations.upgrade(database) is True
    assert await migrations.upgrade(database) is False
    await database.close()


async def test_a_database_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'new.db'}")
    await migrations.upgrade(database)
    with sqlite3.connect(tmp_path / "new.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StorageError, match="9999"):
        await migrations.upgrade(database)
    await database.close()


def test_each_schema_has_a_number_of_its_own_and_follows_the_one_before() -> None:
    """Two people who add a migration on one day would stop every gateway."""
    texts = sorted((migrations.FOLDER / "versions").glob("[0-9]*_*.py"))
    found = []
    for path in texts:
        said = dict(re.findall(r"^(revision|down_revision) = (.+)$", path.read_text(), re.M))
        assert said["revision"] == f'"{path.name[:4]}"', path.name
        found.append((said["revision"], said["down_revision"]))
    assert found[0][1] == "None"
    assert [before for _, before in found[1:]] == [number for number, _ in found[:-1]]
