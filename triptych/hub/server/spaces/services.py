"""What all Spaces of a hub stand on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from triptych.hub.server.storage.hub import Hub
from triptych.processes import Supervisor

_T = TypeVar("_T")
_threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="spaces")


@dataclass(frozen=True)
class Ground:
    """Hold the hub, the supervisor of its processes, and where Spaces keep their files.

    `address` is the hub's own, as a process on this machine reaches it.
    """

    hub: Hub
    supervisor: Supervisor
    folder: Path
    address: str


async def aside(function: Callable[..., _T], *arguments: object) -> _T:
    """Run work that may take long on threads of its own, so that requests never queue for it."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, lambda: function(*arguments))


async def to_the_end(function: Callable[..., _T], *arguments: object) -> _T:
    """Run such work and see it through, even when the waiting is cancelled.

    What a half-known thread might still start could not be stopped by anybody.
    """
    work = asyncio.ensure_future(aside(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
