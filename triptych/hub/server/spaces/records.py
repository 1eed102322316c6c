"""What the hub remembers of a Space between its starts: port, pauses, hardware."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from triptych.hub.server.database import Database
from triptych.hub.server.workloads import hardware


@dataclass(frozen=True)
class Record:
    """Hold one Space's row.

    `wanted` is what it is meant to do: run, stay asleep until a request, or stay paused. `head`
    is the commit that last answered.
    """

    port: int | None = None
    wanted: str = "running"
    flavor: str = hardware.DEFAULT
    sleep_s: int | None = None


def load(database: Database, repository_id: int) -> Record:
    """Return what is remembered, or what holds for a new Space."""
    row = database.one("SELECT * FROM spaces WHERE repository_id = ?", repository_id)
    if row is None:
        return Record()
    return Record(
        port=row["port"],
        wanted=row["wanted"],
        flavor=row["flavor"],
        sleep_s=row["sleep_s"],
    )


def change(database: Database, repository_id: int, **fields: Any) -> None:
    """Remember something else about a Space; a deleted Space is left alone."""
    names = list(fields)
    assert set(names) <= set(Record.__dataclass_fields__)
    with database.transaction() as connection:
        connection.execute(
            "INSERT OR IGNORE INTO spaces (repository_id, flavor)"
            " SELECT id, ? FROM repositories WHERE id = ?",
            (hardware.DEFAULT, repository_id),
        )
        connection.execute(
            f"UPDATE spaces SET {', '.join(f'{name} = ?' for name in names)}"  # noqa: S608
            " WHERE repository_id = ?",
            (*fields.values(), repository_id),
        )


def ports(database: Database) -> set[int]:
    """Return the ports that belong to Spaces."""
    rows = database.query("SELECT port FROM spaces WHERE port IS NOT NULL")
    return {row["port"] for row in rows}
