"""Signing in elsewhere with an account of this hub: clients, consents, codes, tokens.

A client is a Space with `hf_oauth: true`, whose id and secret follow from its own id and the
hub's key, or one that an administrator registered. A code works once, for five minutes, for the
client and address it was made for. The token that comes of it is an ordinary token of this hub:
listed, limited, revocable.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import sqlite3
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from triptych.errors import HubRefused, UsageError
from triptych.hub.server.database import Database
from triptych.hub.server.repository import Repository
from triptych.hub.server.storage.identity.accounts import Account
from triptych.hub.server.storage.identity.tokens import Identity, create_token, digest
from triptych.secrets import Vault

SCOPES = ("openid", "profile", "email", "read-repos", "write-repos", "manage-repos")
CODE_S = 300
_SPACE = "space-"


@dataclass(frozen=True)
class Client:
    """Describe who wants people signed in."""

    id: str
    name: str
    redirect_uris: tuple[str, ...]
    secret_hash: bytes | None
    """None for a client that cannot keep a secret; it needs a code challenge instead."""


@dataclass(frozen=True)
class Grant:
    """Describe what a person agreed to when a code was made."""

    client_id: str
    user_id: int
    redirect_uri: str
    scopes: tuple[str, ...]
    nonce: str
    challenge: str


def space_credentials(vault: Vault, repository: Repository) -> tuple[str, str]:
    """Return the client id and secret that a Space finds in its environment."""
    client_id = _SPACE + repository.uid
    return client_id, vault.sign(f"oauth {client_id}".encode()).hex()


def register_client(
    database: Database, name: str, redirect_uris: list[str], *, public: bool
) -> tuple[str, str | None]:
    """Register a client; returns its id and, unless it is public, its secret for the only time.

    Raises: UsageError for an address that browsers must not be sent to.
    """
    for uri in redirect_uris:
        parts = urlsplit(uri)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
            raise UsageError(
                f"{uri!r} is no address to return to", hint="as https://app.example/callback"
            )
    client_id = secrets.token_hex(8)
    secret = None if public else secrets.token_urlsafe(32)
    try:
        database.write(
            "INSERT INTO oauth_clients (id, name, secret_hash, redirect_uris, created_at)"
            " VALUES (?, ?, ?, ?, ?)",
            client_id, name, digest(secret) if secret else None, json.dumps(redirect_uris),
            time.time(),
        )  # fmt: skip
    except sqlite3.IntegrityError as error:
        raise HubRefused(409, f"There is a client named {name!r} already") from error
    return client_id, secret


def registered_client(database: Database, client_id: str) -> Client | None:
    """Return a client that an administrator registered."""
    row = database.one("SELECT * FROM oauth_clients WHERE id = ?", client_id)
    if row is None:
        return None
    redirect_uris = tuple(json.loads(row["redirect_uris"]))
    return Client(row["id"], row["name"], redirect_uris, row["secret_hash"])


def list_clients(database: Database) -> list[Client]:
    """Return the registered clients."""
    rows = database.query("SELECT id FROM oauth_clients ORDER BY name")
    found = (registered_client(database, row["id"]) for row in rows)
    return [client for client in found if client]


def remove_client(database: Database, name: str) -> bool:
    """Remove a registered client; tokens it got stay until they end or are revoked."""
    return database.write("DELETE FROM oauth_clients WHERE name = ?", name) > 0


def space_client(vault: Vault, space: Repository, address: str) -> Client:
    """Return a Space as a client, known by its own address."""
    client_id, secret = space_credentials(vault, space)
    return Client(client_id, space.repo_id, (address,), digest(secret))


def space_of(client_id: str) -> str | None:
    """Return the id of the Space behind a client, or None for a registered one."""
    return client_id.removeprefix(_SPACE) if client_id.startswith(_SPACE) else None


def fits(client: Client, redirect_uri: str) -> bool:
    """Return whether people may be sent to an address.

    A registered client names its addresses, to which it may add a query, as Gradio does. A Space
    may use any path of its own origin.
    """
    if not client.id.startswith(_SPACE):
        plain = redirect_uri.partition("?")[0]
        return redirect_uri in client.redirect_uris or plain in client.redirect_uris
    asked, own = urlsplit(redirect_uri), urlsplit(client.redirect_uris[0])
    # Applications behind a proxy believe they are on https; the return goes to their real origin.
    return asked.netloc == own.netloc and asked.scheme in ("http", "https") and not asked.fragment


def return_address(client: Client, redirect_uri: str) -> str:
    """Return where the browser really goes: a Space's own origin, with the path it asked for."""
    if not client.id.startswith(_SPACE):
        return redirect_uri
    scheme = urlsplit(client.redirect_uris[0]).scheme
    return urlsplit(redirect_uri)._replace(scheme=scheme).geturl()


def consented(database: Database, user_id: int, client_id: str, scopes: tuple[str, ...]) -> bool:
    """Return whether a person agreed to this before."""
    row = database.one(
        "SELECT scopes FROM oauth_consents WHERE user_id = ? AND client_id = ?", user_id, client_id
    )
    return row is not None and set(scopes) <= set(row["scopes"].split())


def make_code(database: Database, grant: Grant) -> str:
    """Remember a consent and return the code for it."""
    code = secrets.token_urlsafe(32)
    with database.transaction() as connection:
        connection.execute("DELETE FROM oauth_codes WHERE expires_at <= ?", (time.time(),))
        connection.execute(
            "INSERT OR REPLACE INTO oauth_consents (user_id, client_id, scopes) VALUES (?, ?, ?)",
            (grant.user_id, grant.client_id, " ".join(grant.scopes)),
        )
        connection.execute(
            "INSERT INTO oauth_codes (hash, client_id, user_id, redirect_uri, scopes, nonce,"
            " challenge, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                digest(code), grant.client_id, grant.user_id, grant.redirect_uri,
                " ".join(grant.scopes), grant.nonce, grant.challenge, time.time() + CODE_S,
            ),
        )  # fmt: skip
    return code


def redeem_code(
    database: Database, client: Client, code: str, redirect_uri: str, verifier: str
) -> Grant:
    """Return what a code stands for, and end it.

    Raises: HubRefused (400) when it is not this client's, used, over, or not proven.
    """
    with database.transaction() as connection:
        row = connection.execute(
            "DELETE FROM oauth_codes WHERE hash = ? RETURNING *", (digest(code),)
        ).fetchone()
    if (
        row is None
        or row["expires_at"] <= time.time()
        or row["client_id"] != client.id
        or row["redirect_uri"] != redirect_uri
        or (row["challenge"] and not _proves(verifier, row["challenge"]))
    ):
        raise HubRefused(400, "invalid_grant", code="invalid_grant")
    return Grant(
        row["client_id"], row["user_id"], row["redirect_uri"], tuple(row["scopes"].split()),
        row["nonce"], row["challenge"],
    )  # fmt: skip


def make_token(
    database: Database, user: Account, client: Client, scopes: tuple[str, ...], lasting_s: float
) -> str:
    """Return a token that reaches as far as the scopes say."""
    if "write-repos" in scopes or "manage-repos" in scopes:
        role = "write"
    else:
        role = "read" if "read-repos" in scopes else "fineGrained"
    name = f"signed in at {client.name}, {secrets.token_hex(4)}"
    return create_token(database, user, name, role, expires_in_s=lasting_s, prefix="hf_oauth_")


def within_reach(identity: Identity, scopes: tuple[str, ...]) -> tuple[str, ...]:
    """Return those scopes that a person can grant: never more than their own token has."""
    beyond = {"write": set(), "read": {"write-repos", "manage-repos"}}.get(
        identity.scope, {"read-repos", "write-repos", "manage-repos"}
    )
    return tuple(scope for scope in scopes if scope not in beyond)


def secret_fits(client: Client, secret: str) -> bool:
    """Return whether a client knows its secret; a public client has no secret."""
    if client.secret_hash is None:
        return not secret
    return hmac.compare_digest(client.secret_hash, digest(secret))


def _proves(verifier: str, challenge: str) -> bool:
    made = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    return hmac.compare_digest(made, challenge.encode())
