"""One-time links that sign in the machine's own user, as the first admin of the gateway.

A link's token is kept as its hash only, in a file that its owner alone can read. Using it removes
the file first: of two simultaneous uses one succeeds. The key stays where it was and is never
part of the link.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from pathlib import Path

from triptych.config import environment
from triptych.durable import write_atomic

LASTS_S = 3600.0


def issue(web: str, then: str = "/console/") -> str:
    """Return a link to the panels at `web` that signs in once, within the hour."""
    token = secrets.token_urlsafe(32)
    record = {"format_version": 1, "expires_at": time.time() + LASTS_S}
    write_atomic(_file(token), json.dumps(record), private=True)
    return f"{web}/sign-in/once/{token}?then={then}"


def redeem(token: str) -> str | None:
    """Return the admin key for a valid token, and use it up; None for any other."""
    file = _file(token)
    taken = file.with_suffix(f".{secrets.token_hex(4)}")
    try:
        file.rename(taken)
    except OSError:
        return None
    expires_at = float(json.loads(taken.read_text("utf-8"))["expires_at"])
    taken.unlink()
    key = admin_key_file()
    if time.time() > expires_at or not key.exists():
        return None
    return key.read_text("utf-8").strip()


def admin_key_file() -> Path:
    """Return where the gateway keeps the first admin's key."""
    return environment.home() / "gateway" / "admin-key"


def _file(token: str) -> Path:
    name = hashlib.sha256(token.encode()).hexdigest()
    return environment.home() / "panels" / "links" / f"{name}.json"
