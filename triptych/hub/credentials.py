"""Which token goes to which hub: the most particular one, and none to a stranger.

Left out: sending it (`client`), and the hub's own side of tokens (`server.identity`).
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from triptych.config import environment

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def find_token(endpoint: str, stored: Callable[[], str | None]) -> str | None:
    """Return the token for an endpoint, or None to go without one.

    In this order: a keyless exchange where `HF_OIDC_RESOURCE` asks for one; `HF_TOKEN`; for a hub
    on this machine, the embedded hub's own token; the login that `stored` knows. The first and
    the last belong to the endpoint of the environment and go to no other.
    """
    of_environment = endpoint == environment.hub_endpoint()
    if of_environment and environment.get("HF_OIDC_RESOURCE"):
        return stored()
    if given := environment.secret("HF_TOKEN"):
        return given.reveal()
    own = environment.home() / "hub" / "admin_token"
    if urlsplit(endpoint).hostname in _LOOPBACK and own.is_file():
        return own.read_text(encoding="utf-8").strip()
    return stored() if of_environment else None
