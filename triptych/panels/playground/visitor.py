"""The visitor of a page: a name for the queue, and the key of their sign-in, if any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from triptych.config.environment import Secret

_OWN = ("127.0.0.1", "::1")


@dataclass(frozen=True)
class Visitor:
    """A visitor of the page; `key` is their key at the gateway."""

    name: str
    key: Secret | None = None


def visitor_of(request: Any) -> Visitor:
    """Return the visitor of a request: the signed-in user, else the address it comes from.

    Behind a hub every visitor comes from the hub's address, which says whose request it passes on.
    """
    inner = getattr(request, "request", request)
    scope = getattr(inner, "scope", None) or {}
    if session := scope.get("signed_in"):
        return Visitor(f"user {session.name}", Secret(session.key))
    signed = (scope.get("session") or {}).get("oauth_info") or {}
    if name := (signed.get("userinfo") or {}).get("preferred_username"):
        return Visitor(f"user {name}")
    headers = dict(scope.get("headers") or ())
    host = str((scope.get("client") or ("unknown",))[0])
    # Only a proxy on this machine is believed; the last address is the one it saw itself.
    passed_on = headers.get(b"x-forwarded-for", b"").decode("latin-1").rpartition(",")[2].strip()
    return Visitor(passed_on if passed_on and host in _OWN else host)
