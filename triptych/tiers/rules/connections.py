"""How many connections a worker keeps open, in all and of one address.

Each connection takes a descriptor, and descriptors are also what the record, the database and the
upstreams need: connections stop where these begin. Left out: timeouts (`http.protocol`).
"""

from __future__ import annotations

import ipaddress
import logging
import resource
import time
from collections import Counter

from triptych.config.gateway import GatewayConfig

logger = logging.getLogger("triptych.gateway")

_WANTED_DESCRIPTORS = 65_536
#: Kept for the database, the spool, upstreams and files.
_RESERVED_DESCRIPTORS = 512
_SAID_EVERY_S = 60.0


def raise_descriptor_limit() -> int:
    """Raise the process's soft limit of open files as far as it may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = (
        _WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_WANTED_DESCRIPTORS, hard)
    )
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return _WANTED_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


class ConnectionLimits:
    """Count open connections and refuse the one too many."""

    def __init__(self, config: GatewayConfig) -> None:
        descriptors = raise_descriptor_limit()
        available = max(descriptors - _RESERVED_DESCRIPTORS, descriptors // 3)
        self.most = min(config.max_connections or available, available)
        self.most_per_address = config.max_connections_per_address or max(1, self.most // 2)
        self.header_timeout_s = config.header_timeout_s
        self.body_timeout_s = config.body_timeout_s
        self.refused = 0
        """Connections that were closed because there were too many."""
        self.timed_out = 0
        """Connections that were closed because their request did not arrive."""
        self._open: Counter[str] = Counter()
        self._total = 0
        self._said_s = float("-inf")

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return self._total

    def admit(self, address: str) -> bool:
        """Count a new connection, or refuse it."""
        place = place_of(address)
        if self._total >= self.most or self._open[place] >= self.most_per_address:
            self.refused += 1
            now = time.monotonic()
            if now - self._said_s >= _SAID_EVERY_S:
                self._said_s = now
                logger.warning(
                    "connections are refused: %d open, %d of them from %s; %d refused so far",
                    self._total, self._open[place], place, self.refused,
                )  # fmt: skip
            return False
        self._open[place] += 1
        self._total += 1
        return True

    def release(self, address: str) -> None:
        """Count the end of a connection that was admitted."""
        place = place_of(address)
        self._total -= 1
        self._open[place] -= 1
        if not self._open[place]:
            del self._open[place]


def place_of(address: str) -> str:
    """Return what counts as one address: of IPv6 the network of 64 bits that one caller has."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
