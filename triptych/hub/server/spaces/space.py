"""One Space through its stages: build, start, serve, sleep, wake, crash, pause.

A new version is built and started beside the one that serves; requests move over when it
answers, and stay where they are when it does not. At most one attempt is under way: a newer one
replaces it. What was replaced is kept for a while, so that going back to it takes a moment.
Everything here runs on the hub's event loop.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from triptych.errors import RepositoryNotFound, TriptychError
from triptych.hub.server.repositories import catalog
from triptych.hub.server.repository import Repository
from triptych.hub.server.spaces import records
from triptych.hub.server.spaces.building import Builder
from triptych.hub.server.spaces.instance import Instance
from triptych.hub.server.spaces.services import WorkloadServices
from triptych.hub.server.spaces.stages import (
    FAILED,
    WAKES_ON_REQUEST,
    Runtime,
    SpaceFailed,
    Stage,
    while_serving,
)
from triptych.hub.server.spaces.standby import Standby
from triptych.hub.server.spaces.starting import end, meaning, start, until_it_answers
from triptych.hub.server.threads import in_shielded_thread
from triptych.hub.server.workloads.logs import LogBook
from triptych.processes import Status

log = logging.getLogger(__name__)
OUT_OF_SERVICE = frozenset({Stage.PAUSED, Stage.DELETING})


class Space:
    """Lead one repository's app through its life."""

    def __init__(
        self, services: WorkloadServices, builder: Builder, standby: Standby, repository: Repository
    ) -> None:
        self.services = services
        self.builder = builder
        self.standby = standby
        self.repository_id = repository.id
        self.folder: Path = services.folder / repository.uid
        self.host = ""
        self.stage = Stage.STOPPED
        self.message = ""
        self.restarts = 0
        self.serving: Instance | None = None
        self.latest: Instance | None = None
        self._turn = asyncio.Lock()
        self._attempt: asyncio.Task[None] | None = None
        self._aside: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._open_requests = 0
        self._last_request = time.monotonic()

    def repository(self) -> Repository:
        """Read the repository's row as it is now."""
        return catalog.by_id(self.services.hub.database, self.repository_id)

    def record(self) -> records.Record:
        """Read what is remembered of this Space."""
        return records.load(self.services.hub.database, self.repository_id)

    def runtime(self) -> Runtime:
        """Describe the Space as it is now."""
        record = self.record()
        return Runtime(
            stage=self.stage,
            message=self.message,
            flavor=record.flavor,
            sleep_s=self.sleep_after_s(record),
            sha=self.serving.sha if self.serving and self.serving.answering else "",
            domain=self.host.partition("://")[2],
            restarts=self.restarts,
            isolation=self.services.hub.isolation.to_dict(),
        )

    def sleep_after_s(self, record: records.Record) -> int | None:
        """Return the idle time after which this Space goes to sleep; None for never."""
        configured = self.services.hub.config.space_sleep_s
        seconds = configured if record.sleep_s is None else record.sleep_s
        return seconds if seconds > 0 else None

    async def bring_up(self, *, afresh: bool = False) -> None:
        """Build and start the present head; an attempt under way is given up for this one."""
        async with self._turn:
            await self._bring_up(lambda: self._try(afresh=afresh))

    async def follow(self) -> None:
        """Come to what the repository says now; what runs like that already is left running."""
        async with self._turn:
            await self._bring_up(self._try_the_shortest_way)

    async def forget_earlier(self) -> None:
        """End the earlier version that is kept, as when it holds a secret that was withdrawn."""
        await self.standby.clear(self.repository_id)

    async def wake(self) -> None:
        """Start again what sleeps; a Space that does not sleep is left alone."""
        async with self._turn:
            if self.stage in WAKES_ON_REQUEST:
                await self._bring_up(self._try)

    async def pause(self) -> None:
        """Stop until it is restarted."""
        await self._stop(Stage.PAUSED, wanted="paused")

    async def sleep(self) -> None:
        """Stop until the next request."""
        await self._stop(Stage.SLEEPING, wanted="sleeping")

    async def stop(self) -> None:
        """Stop because the hub stops; what the Space is meant to do stays remembered."""
        await self._stop(Stage.STOPPED)

    async def remove(self) -> None:
        """Stop for good and delete everything the Space left here."""
        await self._stop(Stage.DELETING)
        await in_shielded_thread(lambda: shutil.rmtree(self.folder, ignore_errors=True))

    def log_book(self, *, build: bool) -> LogBook | None:
        """Return the log of the newest attempt."""
        if self.latest is None:
            return None
        return self.latest.build_log if build else self.latest.run_log

    def process(self) -> Status | None:
        """Return what the serving process does."""
        return self.services.supervisor.status(self.serving.name) if self.serving else None

    def rest(self, stage: Stage) -> None:
        """Take up a stage in which nothing runs, as it was before the hub restarted."""
        self._enter(stage)

    async def answering(self, patience_s: float) -> Instance | None:
        """Return what serves now, waking the Space and waiting for it if need be."""
        if self.stage in WAKES_ON_REQUEST:
            await self.wake()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not (self.serving and self.serving.answering):
                    given_up = self.stage in FAILED and self.serving is None
                    if given_up or self.stage in OUT_OF_SERVICE:
                        return None
                    await self._changed.wait()
                return self.serving
        return None

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Count a request, so that the Space does not fall asleep under it."""
        self._open_requests += 1
        try:
            yield
        finally:
            self._open_requests -= 1
            self._last_request = time.monotonic()

    async def sleep_if_idle(self) -> None:
        """Go to sleep after `sleep_s` without a request."""
        if self.stage is not Stage.RUNNING or self._open_requests:
            return
        after_s = self.sleep_after_s(await asyncio.to_thread(self.record))
        if after_s is not None and time.monotonic() - self._last_request >= after_s:
            await self.sleep()

    def heard(self, status: Status) -> None:
        """Take note of what became of the serving process; the supervisor restarts it."""
        serving = self.serving
        if serving is None or status.name != serving.name:
            return
        self.restarts = status.restarts
        if status.state == "running":
            self._enter(Stage.APP_STARTING)
            self._meanwhile(self._welcome_back(serving))
        elif status.state in ("waiting", "exited"):
            log.warning("the app of Space %d ended: %s", self.repository_id, status.reason)
            serving.answering = False
            if status.state == "exited":
                self._retire(serving)
            self._enter(Stage.RUNTIME_ERROR, f"the app ended: {status.reason}")

    async def _bring_up(self, attempt: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self._give_up_attempt()
        await self._remember("running")
        self._enter(Stage.BUILDING)
        self._attempt = asyncio.create_task(attempt())

    async def _stop(self, stage: Stage, wanted: str = "") -> None:
        async with self._turn:
            await self._give_up_attempt()
            if wanted:
                await self._remember(wanted)
            serving, self.serving = self.serving, None
            self._enter(stage)
            if serving is not None:
                await end(self.services, serving)
            await self.standby.clear(self.repository_id)
            if self._aside:
                await asyncio.wait(self._aside)

    async def _remember(self, wanted: str) -> None:
        database = self.services.hub.database
        await in_shielded_thread(
            lambda: records.change(database, self.repository_id, wanted=wanted)
        )

    async def _give_up_attempt(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None and not attempt.done():
            attempt.cancel()
            await asyncio.wait([attempt])

    async def _try_the_shortest_way(self) -> None:
        """Go on with what serves, or back to what served before, if that is what is meant."""
        with suppress(TriptychError, OSError):  # what is wrong, the long way explains
            repository, wanted = await asyncio.to_thread(self._wanted)
            serving = self.serving
            if serving and serving.answering and (serving.meaning, serving.sha) == (
                wanted, repository.head,
            ):  # fmt: skip
                self._enter(Stage.RUNNING)
                return
            kept = await self.standby.take(self.repository_id, wanted)
            if kept is not None:
                kept.sha, self.latest = repository.head, kept
                kept.note(f"===== Serves again, for {repository.head} =====")
                self._take_over(kept)
                return
        await self._try()

    def _wanted(self) -> tuple[Repository, str]:
        """Read what is to be started, and what all of it means."""
        repository = self.repository()
        return repository, meaning(self.services, repository, self.host)

    async def _try(self, *, afresh: bool = False) -> None:
        instance: Instance | None = None
        try:
            repository, wanted = await asyncio.to_thread(self._wanted)
            instance = Instance.plan(self.folder, repository.uid, repository.head, wanted)
            await in_shielded_thread(instance.create_folders)
            self.latest = instance
            await self.builder.build(instance, repository, afresh=afresh)
            instance.build_log.close()
            self._enter(Stage.APP_STARTING)
            await start(self.services, instance, repository, self.host)
        except RepositoryNotFound:
            self._discard(instance)
        except (TriptychError, OSError) as error:
            stage = error.stage if isinstance(error, SpaceFailed) else Stage.RUNTIME_ERROR
            self._discard(instance)
            self._enter(stage, self._explain(str(error)))
        except asyncio.CancelledError:
            self._discard(instance)
            raise
        else:
            self._take_over(instance)

    def _take_over(self, instance: Instance) -> None:
        previous, self.serving = self.serving, instance
        instance.answering = True
        self._last_request = time.monotonic()
        self.restarts = 0
        self._enter(Stage.RUNNING)
        if previous is not None and previous.meaning != instance.meaning:
            self.standby.keep(self.repository_id, previous)
        else:
            self._discard(previous)

    def _retire(self, instance: Instance) -> None:
        self.serving = None
        self._discard(instance)

    def _discard(self, instance: Instance | None) -> None:
        if instance is not None:
            self._meanwhile(end(self.services, instance))

    async def _welcome_back(self, instance: Instance) -> None:
        """Let requests in again when a restarted process answers."""
        restarts = self.restarts
        try:
            await until_it_answers(self.services, instance, restarts=restarts)
        except SpaceFailed as failure:
            status = self.services.supervisor.status(instance.name)
            silent = status is not None and status.state == "running"
            if silent and self.serving is instance and self.restarts == restarts:
                self._retire(instance)
                self._enter(failure.stage, str(failure))
            return  # otherwise it ended again, and `heard` hears of that
        if self.serving is instance:
            instance.answering = True
            self._enter(Stage.RUNNING)

    def _meanwhile(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    def _explain(self, message: str) -> str:
        if self.serving is None:
            return message
        return f"{message}\nThe previous version ({self.serving.sha[:12]}) still answers."

    def _enter(self, stage: Stage, message: str = "") -> None:
        serves = self.serving is not None and self.serving.answering
        self.stage = while_serving(stage) if serves else stage
        self.message = message
        self._changed.set()
        self._changed = asyncio.Event()
