"""Users, organisations and who belongs to which."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

from triptych.errors import EntryNotFound, HubRefused
from triptych.hub.server.database import Database, Row
from triptych.hub.server.names import require_account_name

ORGANISATION_ROLES = ("read", "write", "admin")


@dataclass(frozen=True)
class Account:
    """Describe a user or an organisation."""

    id: int
    name: str
    kind: str
    fullname: str
    email: str
    is_admin: bool
    created_at: float


def create_account(
    database: Database,
    name: str,
    *,
    kind: str = "user",
    fullname: str = "",
    email: str = "",
    is_admin: bool = False,
) -> Account:
    """Add a user or an organisation; names are one namespace, whatever their case.

    Raises: HubRefused (409) when the name is taken.
    """
    require_account_name(name)
    try:
        database.write(
            "INSERT INTO accounts (name, kind, fullname, email, is_admin, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            name, kind, fullname or name, email, int(is_admin), time.time(),
        )  # fmt: skip
    except sqlite3.IntegrityError as error:
        raise HubRefused(
            409,
            f"The name {name} is taken",
            hint="people and organisations share one list of names: triptych hub user list",
        ) from error
    account = find_account(database, name)
    assert account is not None
    return account


def find_account(database: Database, name: str) -> Account | None:
    """Look an account up by its exact name."""
    row = database.one("SELECT * FROM accounts WHERE name = ? COLLATE BINARY", name)
    return _account(row) if row else None


def account_by_id(database: Database, account_id: int) -> Account:
    """Return an account by its number.

    Raises: EntryNotFound when it is gone.
    """
    row = database.one("SELECT * FROM accounts WHERE id = ?", account_id)
    if row is None:
        raise EntryNotFound("This account no longer exists")
    return _account(row)


def list_accounts(database: Database) -> list[Account]:
    """Return every user and organisation, by name."""
    return [_account(row) for row in database.query("SELECT * FROM accounts ORDER BY name")]


def set_membership(database: Database, org: Account, user: Account, role: str | None) -> None:
    """Set the role of a user in an organisation; None removes the membership."""
    if org.kind != "org" or user.kind != "user":
        raise HubRefused(400, f"{user.name} cannot be a member of {org.name}")
    with database.transaction() as connection:
        connection.execute(
            "DELETE FROM memberships WHERE org_id = ? AND user_id = ?", (org.id, user.id)
        )
        if role is not None:
            connection.execute(
                "INSERT INTO memberships (org_id, user_id, role) VALUES (?, ?, ?)",
                (org.id, user.id, role),
            )


def organisations_of(database: Database, user_id: int) -> list[tuple[Account, str]]:
    """Return the organisations a user belongs to, with the role in each."""
    rows = database.query(
        "SELECT accounts.*, memberships.role AS role FROM memberships"
        " JOIN accounts ON accounts.id = memberships.org_id"
        " WHERE memberships.user_id = ? ORDER BY accounts.name",
        user_id,
    )
    return [(_account(row), row["role"]) for row in rows]


def members_of(database: Database, org_id: int) -> list[tuple[Account, str]]:
    """Return the users of an organisation, with the role of each."""
    rows = database.query(
        "SELECT accounts.*, memberships.role AS role FROM memberships"
        " JOIN accounts ON accounts.id = memberships.user_id"
        " WHERE memberships.org_id = ? ORDER BY accounts.name",
        org_id,
    )
    return [(_account(row), row["role"]) for row in rows]


def _account(row: Row) -> Account:
    return Account(
        id=row["id"],
        name=row["name"],
        kind=row["kind"],
        fullname=row["fullname"],
        email=row["email"],
        is_admin=bool(row["is_admin"]),
        created_at=row["created_at"],
    )
