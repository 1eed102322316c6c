"""Access tokens: stored hashed, shown once, revocable; read, write, or for single repositories.

A token has 160 random bits, so a plain SHA-256 of it is safe to store and fast to look up.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import string
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from triptych.errors import AccessDenied, HubRefused
from triptych.hub.server.database import Database, Row
from triptych.hub.server.storage.identity.accounts import Account
from triptych.secrets import refuse_guessable

TOKEN_ROLES = ("read", "write", "fineGrained")
_PREFIX = "hf_"
_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 34


@dataclass(frozen=True)
class Identity:
    """Describe the caller and what the token used allows."""

    account_id: int
    name: str
    fullname: str
    email: str
    is_admin: bool
    token_id: int
    token_name: str
    scope: str
    expires_at: float | None = None
    memberships: Mapping[int, str] = field(default_factory=dict)
    """Role by account id of the organisation."""
    grants: Mapping[int, str] = field(default_factory=dict)
    """Role by repository id, for fine-grained tokens."""

    @property
    def administers(self) -> bool:
        """Return whether this is an administrator of the hub with a token that may do it all."""
        return self.is_admin and self.scope == "write"


@dataclass(frozen=True)
class TokenRecord:
    """Describe a token without the token."""

    id: int
    name: str
    role: str
    hint: str
    created_at: float
    expires_at: float | None


def create_token(
    database: Database,
    user: Account,
    name: str,
    role: str,
    *,
    grants: Mapping[int, str] | None = None,
    expires_in_s: float | None = None,
    value: str | None = None,
    prefix: str = _PREFIX,
) -> str:
    """Create a token and return it, for the only time.

    A fine-grained token reaches the repositories of `grants` and otherwise what is public.

    Raises: HubRefused (409) when the user already has a token of that name.
    """
    if role not in TOKEN_ROLES:
        raise HubRefused(400, f"A token is one of {', '.join(TOKEN_ROLES)}, not {role!r}")
    if grants and role != "fineGrained":
        raise HubRefused(400, "Only a fine-grained token is for single repositories")
    if value is not None:
        refuse_guessable(value, what="token", remedy="let the hub make one")
    token = value or prefix + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
    now = time.time()
    expires_at = now + expires_in_s if expires_in_s else None
    try:
        with database.transaction() as connection:
            connection.execute("DELETE FROM tokens WHERE expires_at <= ?", (now,))
            token_id = connection.execute(
                "INSERT INTO tokens (user_id, name, role, hash, hint, created_at, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (user.id, name, role, digest(token), f"…{token[-4:]}", now, expires_at),
            ).lastrowid
            connection.executemany(
                "INSERT INTO token_grants (token_id, repository_id, role) VALUES (?, ?, ?)",
                [(token_id, repository, granted) for repository, granted in (grants or {}).items()],
            )
    except sqlite3.IntegrityError as error:
        raise HubRefused(409, f"{user.name} already has a token named {name!r}") from error
    return token


def list_tokens(database: Database, user_id: int) -> list[TokenRecord]:
    """Return what is known of a user's tokens."""
    rows = database.query("SELECT * FROM tokens WHERE user_id = ? ORDER BY created_at", user_id)
    return [
        TokenRecord(r["id"], r["name"], r["role"], r["hint"], r["created_at"], r["expires_at"])
        for r in rows
    ]


def revoke_token(database: Database, user_id: int, name: str) -> bool:
    """End a token, its sessions with it; False when there is none of that name."""
    return database.write("DELETE FROM tokens WHERE user_id = ? AND name = ?", user_id, name) > 0


def authenticate(database: Database, token: str) -> Identity:
    """Return who a token belongs to.

    Raises: AccessDenied when it is unknown, revoked or expired; the three look alike.
    """
    row = database.one(
        "SELECT tokens.*, tokens.name AS token_name, accounts.name AS account_name,"
        " accounts.fullname, accounts.email, accounts.is_admin FROM tokens"
        " JOIN accounts ON accounts.id = tokens.user_id WHERE tokens.hash = ?",
        digest(token),
    )
    if row is None or (row["expires_at"] is not None and row["expires_at"] <= time.time()):
        raise AccessDenied("Invalid credentials in Authorization header", code="invalid_token")
    return identity_of(database, row)


def identity_of(database: Database, row: Row) -> Identity:
    """Read what an authenticated token row may reach."""
    memberships = database.query(
        "SELECT org_id, role FROM memberships WHERE user_id = ?", row["user_id"]
    )
    grants = (
        database.query("SELECT repository_id, role FROM token_grants WHERE token_id = ?", row["id"])
        if row["role"] == "fineGrained"
        else []
    )
    return Identity(
        account_id=row["user_id"],
        name=row["account_name"],
        fullname=row["fullname"],
        email=row["email"],
        is_admin=bool(row["is_admin"]),
        token_id=row["id"],
        token_name=row["token_name"],
        scope=row["role"],
        expires_at=row["expires_at"],
        memberships={r["org_id"]: r["role"] for r in memberships},
        grants={r["repository_id"]: r["role"] for r in grants},
    )


def digest(token: str) -> bytes:
    """Return the form in which a token is stored."""
    return hashlib.sha256(token.encode()).digest()
