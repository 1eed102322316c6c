"""The metrics of all workers of one machine, from whichever of them is asked.

Each worker hands its own out on a socket in a folder that only its user can enter; the one that
is asked over HTTP collects them. Every series names its node and worker, so that none goes back
when another worker is asked, and a restarted worker restarts its own series only: sum them after
taking the rate.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

logger = logging.getLogger("triptych.gateway")

_PATIENCE_S = 2.0
Family = dict[str, Any]


class WorkerMetrics:
    """Hand out this worker's metrics, and collect those of all."""

    def __init__(
        self, node: str, worker: str, folder: str, own: Callable[[], list[Family]]
    ) -> None:
        self._labels = {"node": node, "worker": worker}
        self._path = Path(folder) / f"{worker}.sock" if folder else None
        self._own = own
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to hand out; a machine with one worker has no need of it."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._hand_out, str(self._path))

    async def close(self) -> None:
        """Stop handing out."""
        if self._server is not None and self._path is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _hand_out(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(orjson.dumps([self._labels, self._own()]))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async def render(self) -> bytes:
        """Write the metrics of every worker in Prometheus' text format."""
        parts = [(self._labels, self._own())]
        if self._path is not None:
            others = [path for path in self._path.parent.glob("*.sock") if path != self._path]
            found = await asyncio.gather(*(_collect(path) for path in sorted(others)))
            parts += [part for part in found if part is not None]
        return generate_latest(_Merged(parts))


async def _collect(path: Path) -> tuple[dict[str, str], list[Family]] | None:
    """Return what a worker hands out, or None of one that died or does not answer."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            reader, writer = await asyncio.open_unix_connection(str(path))
            raw = await reader.read()
            writer.close()
        labels, families = orjson.loads(raw)
    except (OSError, TimeoutError, orjson.JSONDecodeError) as error:
        logger.warning("no metrics of %s: %s", path.stem, type(error).__name__)
        return None
    return labels, families


def families_of(registry: CollectorRegistry) -> list[Family]:
    """Return every metric of a registry in a form that can be sent."""
    return [
        {
            "name": metric.name,
            "type": metric.type,
            "help": metric.documentation,
            "samples": [(s.name, s.labels, s.value) for s in metric.samples],
        }
        for metric in registry.collect()
    ]


class _Merged(Collector):
    """What `generate_latest` takes for a registry: families of several workers, each one once."""

    def __init__(self, parts: Iterable[tuple[dict[str, str], list[Family]]]) -> None:
        self._parts = list(parts)

    def collect(self) -> Iterator[Metric]:
        """Yield every family with the samples of all workers."""
        merged: dict[str, Metric] = {}
        for labels, families in self._parts:
            for family in families:
                metric = merged.setdefault(
                    family["name"], Metric(family["name"], family["help"], family["type"])
                )
                for name, own, value in family["samples"]:
                    if not name.endswith("_created"):
                        metric.add_sample(name, {**own, **labels}, value)
        yield from merged.values()
