"""Keeping cookies apart: a browser sends them by host name, whatever the port.

Spaces on ports of one host would read each other's cookies and the hub's. So every cookie of a
Space carries the Space's prefix in the browser, and only cookies with that prefix, without it,
reach the Space.
"""

from __future__ import annotations

import re

_SAFE = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def prefix_of(uid: str) -> str:
    """Return the prefix of a Space's cookies; it never changes."""
    return f"space_{uid}_"


def inward(header: str, prefix: str) -> str:
    """Return the Cookie header as the Space sees it; empty when nothing in it is its own."""
    pairs = (pair.strip() for pair in header.split(";"))
    return "; ".join(pair.removeprefix(prefix) for pair in pairs if pair.startswith(prefix))


def outward(header: str, prefix: str) -> str | None:
    """Return a Set-Cookie header as the browser gets it; None for one that is malformed.

    A Domain attribute is dropped: it would carry the cookie to other hosts.
    """
    pair, *attributes = header.split(";")
    name, equals, value = pair.strip().partition("=")
    if not equals or not _SAFE.fullmatch(name):
        return None
    kept = [one for one in attributes if not one.strip().lower().startswith("domain")]
    return ";".join([f"{prefix}{name}={value}", *kept])
