"""What a workload uses now, as the clients' live statistics read it.

Processor and memory are those of the workload's own processes. Linux does not count network
traffic per process, so those two figures are the machine's.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import psutil

from triptych.hub.server.workloads import hardware
from triptych.processes import Identity, Status
from triptych.processes.identity import cpu_seconds, family, memory_bytes
from triptych.wire import sse

EVERY_S = 1.0


async def follow(status: Callable[[], Status | None], total_bytes: int) -> AsyncIterator[bytes]:
    """Yield one event a second until the workload has ended."""
    before: tuple[float, float, int, int] | None = None
    while True:
        now = status()
        if now is None or now.state not in ("running", "waiting"):
            return
        identity = Identity.of(now.pid) if now.pid is not None else None
        if identity is not None:
            usage = await asyncio.to_thread(_measure, identity)
            if before is not None:
                yield sse.encode(json.dumps(_event(before, usage, total_bytes)), event="metric")
            before = usage[:4]
        await asyncio.sleep(EVERY_S)


def _measure(identity: Identity) -> tuple[float, float, int, int, int]:
    members = family(identity)
    network = psutil.net_io_counters()
    return (
        time.monotonic(),
        sum(map(cpu_seconds, members)),
        network.bytes_recv,
        network.bytes_sent,
        sum(map(memory_bytes, members)),
    )


def _event(
    before: tuple[float, float, int, int], now: tuple[float, float, int, int, int], total: int
) -> dict[str, Any]:
    elapsed_s = max(now[0] - before[0], 1e-6)
    busy = max(0.0, now[1] - before[1]) / elapsed_s
    return {
        "cpu_usage_pct": round(100 * busy / hardware.cores(), 1),
        "cpu_millicores": 1000 * hardware.cores(),
        "memory_used_bytes": now[4],
        "memory_total_bytes": total,
        "rx_bps": round(max(0, now[2] - before[2]) / elapsed_s),
        "tx_bps": round(max(0, now[3] - before[3]) / elapsed_s),
        "gpus": {},
    }
