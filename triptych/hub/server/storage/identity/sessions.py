"""Signed-in people on the hub's pages: a cookie, which the programming interface never accepts.

A session stands on the token it was opened with: it can do what the token can, and ends with it.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Mapping

from triptych.hub.server.database import Database
from triptych.hub.server.storage.identity.tokens import Identity, digest, identity_of
from triptych.secrets import Vault

COOKIE = "triptych_hub_session"


def open_session(database: Database, identity: Identity, seconds: float) -> str:
    """Start a session and return its cookie value."""
    value = secrets.token_urlsafe(32)
    with database.transaction() as connection:
        connection.execute("DELETE FROM sessions WHERE expires_at <= ?", (time.time(),))
        connection.execute(
            "INSERT INTO sessions (hash, user_id, token_id, expires_at) VALUES (?, ?, ?, ?)",
            (digest(value), identity.account_id, identity.token_id, time.time() + seconds),
        )
    return value


def close_session(database: Database, cookies: Mapping[str, str]) -> None:
    """End the session of a cookie."""
    if COOKIE in cookies:
        database.write("DELETE FROM sessions WHERE hash = ?", digest(cookies[COOKIE]))


def session_identity(database: Database, cookies: Mapping[str, str]) -> Identity | None:
    """Return who a cookie belongs to, or None."""
    if COOKIE not in cookies:
        return None
    row = database.one(
        "SELECT tokens.*, tokens.name AS token_name, accounts.name AS account_name,"
        " accounts.fullname, accounts.email, accounts.is_admin FROM sessions"
        " JOIN tokens ON tokens.id = sessions.token_id"
        " JOIN accounts ON accounts.id = sessions.user_id"
        " WHERE sessions.hash = ? AND sessions.expires_at > ?"
        " AND (tokens.expires_at IS NULL OR tokens.expires_at > ?)",
        digest(cookies[COOKIE]), time.time(), time.time(),
    )  # fmt: skip
    return identity_of(database, row) if row else None


def form_token(vault: Vault, cookies: Mapping[str, str]) -> str:
    """Return what a form must carry to prove that it came from this hub's own page."""
    return vault.sign(b"form " + digest(cookies.get(COOKIE, ""))).hex()


def form_token_fits(vault: Vault, cookies: Mapping[str, str], shown: str) -> bool:
    """Return whether a form carries what this session's pages put into it."""
    return hmac.compare_digest(form_token(vault, cookies).encode(), shown.encode())
