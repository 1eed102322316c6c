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
    """An address that the gateway may not connect to."""

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


#: IPv6 networks whose last 32 bits are an IPv4 address that a translator or stack may go to.
_EMBEDDING = tuple(
    ipaddress.IPv6Network(net)
    for net in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)


def is_private(host: str) -> bool:
    """Return whether a host is an address (or a name by itself) that is not on the public net."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith((".localhost", ".local", ".internal")):
        return True
    address = _address(name)
    if address is None:
        return False
    return not address.is_global or address.is_multicast


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address as a machine would, also `127.1` and `0x7f000001`, or one inside another."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(name))
        except (OSError, UnicodeError):
            return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.sixtofour is not None:
        return address.sixtofour
    if int(address) > 1 and any(address in net for net in _EMBEDDING):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


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

    Raises: AddressRefused when it is not.
    """
    try:
        url = URL(text.strip().rstrip("/"))
    except ValueError as error:
        raise AddressRefused(f"{text!r} is no address") from error
    if not url.is_absolute():
        raise AddressRefused(f"{text!r} is no address", hint="write https://host/path")
    return url.with_fragment(None).with_query(None)
