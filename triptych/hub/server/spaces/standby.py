"""The version of a Space that served before the present one, kept to go back to it quickly.

The version that a new one replaces is not ended but frozen: it keeps its memory, uses no
processor and changes nothing. When it is needed again, it goes on and is asked whether
it answers. There is one per Space; all of them together have a bounded memory and a bounded time.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from triptych.errors import ProcessError
from triptych.hub.server.spaces.instance import Instance
from triptych.hub.server.spaces.services import WorkloadServices
from triptych.hub.server.spaces.stages import SpaceFailed
from triptych.hub.server.spaces.starting import end, until_it_answers
from triptych.hub.server.threads import in_shielded_thread
from triptych.processes import Identity, Status
from triptych.processes.identity import family, memory_bytes

log = logging.getLogger(__name__)
# As long as an app that is ended gets for the requests it has begun to answer.
DRAIN_S = 5.0
ANSWER_S = 10.0


@dataclass
class _Kept:
    instance: Instance
    keeping: asyncio.Task[None]
    memory_bytes: int = 0


class Standby:
    """Keep one earlier version per Space; `keep` it, `take` it back, or `clear` it away."""

    def __init__(self, services: WorkloadServices) -> None:
        self._services = services
        self._kept: dict[int, _Kept] = {}
        self._ending: dict[int, set[asyncio.Task[None]]] = {}

    def keep(self, space_id: int, instance: Instance) -> None:
        """Keep a version that gets no requests any more, in place of the one kept so far."""
        self._drop(space_id)
        if self._services.hub.config.space_parked_s == 0:
            self._end(space_id, instance)
            return
        instance.answering = False
        keeping = asyncio.create_task(self._keep(space_id, instance))
        self._kept[space_id] = _Kept(instance, keeping)

    async def take(self, space_id: int, meaning: str) -> Instance | None:
        """Return the version kept, awake and answering, if it is the one that is meant."""
        kept = self._kept.get(space_id)
        if kept is None or kept.instance.meaning != meaning:
            return None
        del self._kept[space_id]
        instance = kept.instance
        kept.keeping.cancel()
        await asyncio.wait([kept.keeping])
        try:
            await self._wake(instance)
        except SpaceFailed as failure:
            log.warning("the version kept of Space %d is gone: %s", space_id, failure.message)
            self._end(space_id, instance)
            return None
        except asyncio.CancelledError:
            self.keep(space_id, instance)
            raise
        return instance

    async def clear(self, space_id: int) -> None:
        """End what is kept of a Space, and see it through."""
        self._drop(space_id)
        if ending := self._ending.get(space_id):
            await asyncio.wait(ending)

    def heard(self, status: Status) -> None:
        """Let go of a version that ended by itself, before it is started again."""
        for space_id, kept in list(self._kept.items()):
            if kept.instance.name == status.name and status.state in ("waiting", "exited"):
                self._drop(space_id)

    async def _keep(self, space_id: int, instance: Instance) -> None:
        if instance.exchanges:
            await asyncio.wait(instance.exchanges, timeout=DRAIN_S)
        instance.break_off()
        try:
            used_bytes = await in_shielded_thread(self._freeze, instance)
        except ProcessError:
            used_bytes = self._services.hub.config.space_parked_bytes + 1
        self._kept[space_id].memory_bytes = used_bytes
        self._evict(space_id)
        await asyncio.sleep(self._services.hub.config.space_parked_s)
        self._drop(space_id)

    def _freeze(self, instance: Instance) -> int:
        """Stop it where it stands and return the memory it holds."""
        self._services.supervisor.freeze(instance.name)
        status = self._services.supervisor.status(instance.name)
        identity = Identity.of(status.pid) if status and status.pid else None
        return sum(map(memory_bytes, family(identity))) if identity else 0

    def _evict(self, newest: int) -> None:
        """Drop what has been kept longest until the rest fits; the newest itself at last."""
        limit_bytes = self._services.hub.config.space_parked_bytes
        oldest_first = [space_id for space_id in self._kept if space_id != newest]
        for space_id in [*oldest_first, newest]:
            if sum(kept.memory_bytes for kept in self._kept.values()) <= limit_bytes:
                return
            self._drop(space_id)

    async def _wake(self, instance: Instance) -> None:
        """Let a frozen version go on and wait until it answers.

        Raises: SpaceFailed when it does not.
        """
        if instance.card.sdk == "static":
            return
        await in_shielded_thread(self._services.supervisor.thaw, instance.name)
        status = self._services.supervisor.status(instance.name)
        restarts = status.restarts if status else 0
        await until_it_answers(self._services, instance, restarts=restarts, patience_s=ANSWER_S)

    def _drop(self, space_id: int) -> None:
        kept = self._kept.pop(space_id, None)
        if kept is None:
            return
        self._end(space_id, kept.instance)
        if kept.keeping is not asyncio.current_task():
            kept.keeping.cancel()

    def _end(self, space_id: int, instance: Instance) -> None:
        task = asyncio.create_task(end(self._services, instance))
        ending = self._ending.setdefault(space_id, set())
        ending.add(task)
        task.add_done_callback(ending.discard)
