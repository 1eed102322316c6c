"""Threads for blocking work (git, SQLite, hashing, builds), so that the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import anyio.to_thread

_T = TypeVar("_T")
# Threads that requests use; the limit belongs to an event loop, so it is set when one starts.
REQUEST_THREADS = 64
_long_threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="long")


def limit_request_threads() -> None:
    """Allow `in_thread` its number of threads on the running event loop."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = REQUEST_THREADS


async def in_thread(function: Callable[..., _T], *arguments: Any) -> _T:
    """Run the short blocking work of a request in a thread and return its result."""
    return await anyio.to_thread.run_sync(function, *arguments)


async def in_long_thread(function: Callable[..., _T], *arguments: object) -> _T:
    """Run blocking work that may take minutes, on threads that no request waits for."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_long_threads, lambda: function(*arguments))


async def in_shielded_thread(function: Callable[..., _T], *arguments: object) -> _T:
    """Run such work and wait for its end, even when the caller is cancelled.

    A thread cannot be stopped. If cancellation returned before it, the thread could start a
    process that no task knows of and therefore no task ends.
    """
    work = asyncio.ensure_future(in_long_thread(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
