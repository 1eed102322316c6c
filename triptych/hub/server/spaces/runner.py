"""All Spaces of a hub: one object per repository, told what happens to repositories.

Opening reaps what a killed hub left running, puts every Space back to what it was meant to do,
and gives each its address. Closing stops them all.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from triptych.errors import HubRefused, ProcessError, RepositoryNotFound
from triptych.hub.server.events import Committed, Created, Deleted, Event, Moved
from triptych.hub.server.repositories import catalog
from triptych.hub.server.repositories.describing import subdomain
from triptych.hub.server.repository import Repository
from triptych.hub.server.spaces import admission, approvals, records
from triptych.hub.server.spaces.building import Builder
from triptych.hub.server.spaces.ports import SpaceServer, listen
from triptych.hub.server.spaces.proxy import Proxy
from triptych.hub.server.spaces.services import WorkloadServices
from triptych.hub.server.spaces.space import Space
from triptych.hub.server.spaces.stages import Stage
from triptych.hub.server.spaces.standby import Standby
from triptych.hub.server.storage.hub import Hub
from triptych.hub.server.workloads import hardware
from triptych.hub.server.workloads.logs import POLL_S
from triptych.processes import Status, Supervisor

log = logging.getLogger(__name__)
MAIN_REF = "refs/heads/main"
# The environments of Spaces are kept; what is in an instance's folder ends with its process.
_KEPT = frozenset({"environments", "processes"})
# Upstream servers close idle connections after five seconds; ours are gone before that.
_KEEP_ALIVE_S = 2.0


class Spaces:
    """Run the Spaces of a hub; use as `await open()` ... `await close()`."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.folder: Path = hub.layout.root / "spaces"
        self.proxies: dict[str, Proxy] = {}
        self._spaces: dict[int, Space] = {}
        self._servers: dict[int, SpaceServer] = {}
        self._names: dict[int, str] = {}
        self._admitting = asyncio.Lock()
        self._ticker: asyncio.Task[None] | None = None
        self._supervisor: Supervisor
        self._files: Path
        self._services: WorkloadServices
        self._builder: Builder
        self._standby: Standby
        self._upstream: aiohttp.ClientSession
        self._loop: asyncio.AbstractEventLoop

    async def open(self) -> None:
        """Reap, clean up, and put every Space back to what it was meant to do."""
        self._loop = asyncio.get_running_loop()
        self._supervisor = await asyncio.to_thread(self._take_folder)
        for name in self._supervisor.reaped:
            log.warning("ended %s, which a killed hub left running", name)
        self._services = WorkloadServices(
            self.hub, self._supervisor, self._files, self.hub.local_address
        )
        self._builder = Builder(self._services)
        self._standby = Standby(self._services)
        await asyncio.to_thread(self._builder.environments.sweep)
        self._upstream = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            auto_decompress=False,
        )
        everyone = await asyncio.to_thread(catalog.every, self.hub.database)
        spaces = [repository for repository in everyone if repository.kind == "space"]
        for repository in spaces:
            await self._restore(await self.of(repository))
        self.hub.events.listen(self._on_event)
        self._ticker = asyncio.create_task(self._tick())

    async def close(self) -> None:
        """Stop every Space; what each is meant to do stays remembered."""
        if self._ticker is not None:
            self._ticker.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticker
        await asyncio.gather(*(server.close() for server in self._servers.values()))
        await asyncio.gather(*(space.stop() for space in self._spaces.values()))
        await asyncio.to_thread(self._supervisor.close)
        await self._upstream.close()

    async def of(self, repository: Repository) -> Space:
        """Return the Space of a repository, also in the moment after its creation."""
        async with self._admitting:
            if repository.id not in self._spaces:
                await self._admit(repository)
        return self._spaces[repository.id]

    def describe(self, repository: Repository, base_url: str) -> dict[str, Any]:
        """Return what a Space's description says of its address and runtime."""
        space = self._spaces.get(repository.id)
        if space is None:
            return {}
        return {
            "host": self.address(repository, base_url),
            "runtime": space.runtime().to_dict(),
        }

    def address(self, repository: Repository, base_url: str) -> str:
        """Return a Space's address for a client that reaches the hub at `base_url`."""
        hub = urlsplit(base_url)
        if self.hub.config.space_domain:
            return f"{hub.scheme}://{subdomain(repository)}.{self.hub.config.space_domain}"
        name = hub.hostname or self.hub.config.host
        port = self._servers[repository.id].port if repository.id in self._servers else 0
        return f"http://{f'[{name}]' if ':' in name else name}:{port}"

    def entry_address(self, repository: Repository, base_url: str, account_id: int | None) -> str:
        """Return the address by which a person on the hub's pages enters a Space."""
        address = self.address(repository, base_url)
        if not repository.private or account_id is None:
            return address
        return f"{address}/?{admission.sign(self.hub, repository, account_id)}"

    def _take_folder(self) -> Supervisor:
        self.folder.mkdir(parents=True, exist_ok=True)
        supervisor = Supervisor(self.folder / "processes", on_change=self._heard_from_thread)
        self._files = self.hub.isolation.folder(self.folder)
        for entry in {*self.folder.iterdir(), *self._files.iterdir()}:
            if entry.name not in _KEPT:
                shutil.rmtree(entry, ignore_errors=True)
        return supervisor

    async def _admit(self, repository: Repository) -> None:
        """Create the Space of a repository, and its address."""
        space = Space(self._services, self._builder, self._standby, repository)
        proxy = Proxy(space, repository.uid, self._upstream)
        if self.hub.config.space_domain:
            self._serve_name(repository, proxy)
        else:
            await self._listen(repository, proxy)
        space.host = self.address(repository, self.hub.config.public_url or self._services.address)
        self._spaces[repository.id] = space

    async def _listen(self, repository: Repository, proxy: Proxy) -> None:
        database, config = self.hub.database, self.hub.config
        record = await asyncio.to_thread(records.load, database, repository.id)
        others = await asyncio.to_thread(records.ports, database)
        try:
            listener = listen(config.host, record.port, config.space_port, others)
        except ProcessError as error:
            log.error("Space %s has no address: %s", repository.repo_id, error)
            return
        server = SpaceServer(proxy, listener)
        if server.port != record.port:
            await asyncio.to_thread(
                lambda: records.change(database, repository.id, port=server.port)
            )
        server.open()
        self._servers[repository.id] = server

    def _serve_name(self, repository: Repository, proxy: Proxy) -> None:
        """Let a host name lead to a Space, and a name it had before no more."""
        self.proxies.pop(self._names.get(repository.id, ""), None)
        domain = self.hub.config.space_domain.partition(":")[0]
        name = f"{subdomain(repository)}.{domain}".lower()
        self._names[repository.id] = name
        self.proxies[name] = proxy

    async def _restore(self, space: Space) -> None:
        wanted = (await asyncio.to_thread(space.record)).wanted
        if wanted == "running":
            await space.bring_up()
        else:
            space.rest(Stage.PAUSED if wanted == "paused" else Stage.SLEEPING)

    async def _on_event(self, event: Event) -> None:
        repository = event.repository
        if repository.kind != "space":
            return
        if isinstance(event, Deleted):
            await self._dismiss(repository)
            return
        space = await self.of(repository)
        if isinstance(event, Created):
            await asyncio.to_thread(self._take_options, repository, event.options)
        if isinstance(event, Committed) and event.by_admin:
            await asyncio.to_thread(self._approve, event)
        if isinstance(event, Moved) and self.hub.config.space_domain:
            self._serve_name(repository, self.proxies[self._names[repository.id]])
        moved_main = isinstance(event, Committed) and any(
            change.ref == MAIN_REF for change in event.changes
        )
        if isinstance(event, Created | Moved) or moved_main:
            await self.refresh(space)

    def _approve(self, event: Committed) -> None:
        """Approve the commit that an administrator brought to the main branch."""
        for change in event.changes:
            if change.ref == MAIN_REF and change.new:
                database, repository_id = self.hub.database, event.repository.id
                approvals.approve(database, repository_id, change.new, event.account)

    def _take_options(self, repository: Repository, options: Mapping[str, Any]) -> None:
        """Take the hardware and sleep time with which a Space was created."""
        fields: dict[str, Any] = {}
        with suppress(HubRefused):  # the repository stands; it runs on what there is
            fields["flavor"] = hardware.require_flavor(options.get("hardware"))
        if isinstance(options.get("sleepTimeSeconds"), int):
            fields["sleep_s"] = options["sleepTimeSeconds"]
        if fields:
            records.change(self.hub.database, repository.id, **fields)

    async def refresh(self, space: Space, *, only_if_running: bool = False) -> None:
        """Let a Space follow a change of what it depends on; a paused one stays so."""
        with suppress(RepositoryNotFound):
            wanted = (await asyncio.to_thread(space.record)).wanted
            if wanted == "paused" or (only_if_running and wanted != "running"):
                return
            await space.follow()

    async def _dismiss(self, repository: Repository) -> None:
        space = self._spaces.pop(repository.id, None)
        server = self._servers.pop(repository.id, None)
        self.proxies.pop(self._names.pop(repository.id, ""), None)
        if server is not None:
            await server.close()
        if space is not None:
            await space.remove()

    def _heard_from_thread(self, status: Status) -> None:
        with suppress(RuntimeError):  # the loop is closed: no Space is left to notify
            self._loop.call_soon_threadsafe(self._heard, status)

    def _heard(self, status: Status) -> None:
        self._standby.heard(status)
        for space in self._spaces.values():
            space.heard(status)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            for space in list(self._spaces.values()):
                for instance in {id(i): i for i in (space.latest, space.serving) if i}.values():
                    instance.build_log.poll()
                    instance.run_log.poll()
                await space.sleep_if_idle()
