"""The days of the record on PostgreSQL: made ahead, dropped whole when they ran out.

A record whose day has no partition (one from a spool of long ago) goes into the default one and
runs out row by row. SQLite has one table, and `retention` deletes rows there.
"""

from __future__ import annotations

import calendar
import logging
import re
import time
from collections.abc import Mapping, Sequence

from sqlalchemy import text

from triptych.tiers.store.database import Connection, Database, across

logger = logging.getLogger("triptych.gateway")

TABLES = ("requests", "attempts")
DAY_S = 86_400
_AHEAD = 3
_SCOPE = across("days of the record belong to every company")
_NAME = re.compile(r"(?:requests|attempts)(?P<before>_before)?_d(?P<day>\d{8})")
_WHOSE = "current_setting('triptych.company', true)"


def _name(table: str, day: int) -> str:
    return f"{table}_d{time.strftime('%Y%m%d', time.gmtime(day * DAY_S))}"


def _ends_s(name: str) -> int:
    """Return the second at which a partition ends, by its name."""
    found = _NAME.fullmatch(name)
    assert found is not None
    start = calendar.timegm(time.strptime(found["day"], "%Y%m%d"))
    return start if found["before"] else start + DAY_S


async def _existing(connection: Connection, table: str) -> list[str]:
    statement = text(
        "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid"
        " WHERE inhparent = to_regclass(:parent)"
    )
    rows = await connection.raw.execute(statement, {"parent": table})
    return sorted(str(row[0]) for row in rows if _NAME.fullmatch(str(row[0])))


async def ensure(database: Database, now: float) -> int:
    """Make the partitions of today and of the next days where they are missing.

    Returns: how many were made.
    Raises: StorageError; records then go into the default partition.
    """
    if database.is_sqlite:
        return 0
    today, made = int(now // DAY_S), 0
    for table in TABLES:
        async with database.write(_SCOPE) as connection:
            await connection.raw.exec_driver_sql("SELECT pg_advisory_xact_lock(7871)")
            await connection.raw.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
            known = await _existing(connection, table)
            covered = max((_ends_s(name) for name in known if "_before_" in name), default=0)
            for day in range(today, today + _AHEAD + 1):
                if _name(table, day) not in known and day * DAY_S >= covered:
                    await _make(connection, table, day)
                    made += 1
    return made


async def _make(connection: Connection, table: str, day: int) -> None:
    name, run = _name(table, day), connection.raw.exec_driver_sql
    bounds = f"FROM ({day * DAY_S}) TO ({(day + 1) * DAY_S})"
    await run(f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES {bounds}")
    await run(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
    await run(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
    allowed = f"({_WHOSE} = '*' OR company_id = {_WHOSE})"
    await run(f"CREATE POLICY by_company ON {name} USING {allowed} WITH CHECK {allowed}")


async def drop_before(
    database: Database, before: float, held: Mapping[str, Sequence[str]]
) -> list[str]:
    """Drop the partitions that ended before a time; one with a row under a legal hold stays.

    Returns: the names of those that went.
    Raises: StorageError.
    """
    if database.is_sqlite:
        return []
    dropped = []
    for table in TABLES:
        async with database.write(_SCOPE) as connection:
            old = [name for name in await _existing(connection, table) if _ends_s(name) <= before]
        for name in old:
            async with database.write(_SCOPE) as connection:
                await connection.raw.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
                if await _has_held(connection, table, name, held):
                    logger.info("%s stays: a legal hold names rows in it", name)
                    continue
                await connection.raw.exec_driver_sql(f"DROP TABLE {name}")
            dropped.append(name)
    return dropped


async def _has_held(
    connection: Connection, table: str, name: str, held: Mapping[str, Sequence[str]]
) -> bool:
    kinds = ("company", "user") if table == "requests" else ("company",)
    for kind in kinds:
        if not held.get(kind):
            continue
        statement = text(f"SELECT 1 FROM {name} WHERE {kind}_id = ANY(:names) LIMIT 1")  # noqa: S608
        found = await connection.raw.execute(statement, {"names": list(held[kind])})
        if found.first() is not None:
            return True
    # an attempt has no user: while any user is held, the days of attempts go row by row
    return table == "attempts" and bool(held.get("user"))


async def bypasses_row_level_security(database: Database) -> bool:
    """Return whether the role of this program sees every company's rows whatever it sets.

    Raises: StorageError.
    """
    if database.is_sqlite:
        return False
    statement = text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
    async with database.read(_SCOPE) as connection:
        row = (await connection.raw.execute(statement)).first()
    return bool(row and row[0])
