"""Where the gateway may connect to: the guard against addresses that reach inside.

Checked twice: the address as written, and every address its name resolves to at the moment of
connecting, so that a name that changes its mind (rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from triptych.errors import UpstreamUnreachable


class AddressRefused(UpstreamUnreachable):
    """Say that an address is not one the gateway may connect to."""

    default_code = "address_refused"
    default_retryable = False


def check_address(url: URL, *, private_allowed: bool) -> None:
    """Refuse what is not plain https to a public host, unless private addresses are allowed.

    Raises: AddressRefused.
    """
    if url.scheme not in ("https", "http") or not url.host:
        raise AddressRefused(f"{url.scheme or 'no scheme'}:// is no address of an API")
    if url.user is not None or url.password is not None:
        raise AddressRefused("an address may not carry a user name or password")
    if private_allowed:
        return
    if url.scheme != "https":
        raise AddressRefused(
            f"{url.host} is not https", hint="allow_private_addresses is for development"
        )
    if is_private(url.host):
        raise AddressRefused(f"{url.host} is not a public address")


def is_private(host: str) -> bool:
    """Tell whether a host is an address (or a name by itself) that is not on the public net."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        name = host.rstrip(".").lower()
        return name == "localhost" or name.endswith((".localhost", ".local", ".internal"))
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return not (mapped or address).is_global or address.is_multicast


class GuardedResolver(AbstractResolver):
    """Resolve names, and refuse those that lead to private addresses."""

    def __init__(self, *, private_allowed: bool) -> None:
        self._private_allowed = private_allowed
        self._resolver: ThreadedResolver | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve a name at the moment of connecting.

        Raises: OSError, as aiohttp expects from a resolver.
        """
        if self._resolver is None:
            self._resolver = ThreadedResolver()
        found = await self._resolver.resolve(host, port, family)
        if not self._private_allowed and any(is_private(entry["host"]) for entry in found):
            raise OSError(f"{host} leads to a private address")
        return found

    async def close(self) -> None:
        """Let go of the resolver."""
        if self._resolver is not None:
            await self._resolver.close()

    def __repr__(self) -> str:
        return f"GuardedResolver(private_allowed={self._private_allowed})"


def parse_address(text: str, **_: Any) -> URL:
    """Parse a base URL once, without its trailing slash.

    Raises: AddressRefused when it is none.
    """
    try:
        url = URL(text.strip().rstrip("/"))
    except ValueError as error:
        raise AddressRefused(f"{text!r} is no address") from error
    if not url.is_absolute():
        raise AddressRefused(f"{text!r} is no address", hint="write https://host/path")
    return url.with_fragment(None).with_query(None)
