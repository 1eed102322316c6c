"""Where documents lie, which company a visit is about, and the syncs that run.

Everything that reads a store runs in a thread of its own and opens the store anew: another process
may have changed it. Left out: what the pages show.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from triptych.config import environment
from triptych.errors import NotFound, TriptychError
from triptych.learning.company.library import EVERYONE, Library
from triptych.learning.company.retrieval import Retriever
from triptych.learning.company.store import Store
from triptych.learning.company.sync import Synced, sync
from triptych.panels.console.accounts import Accounts, read_accounts
from triptych.panels.web.site import Visit

PATH = "/console/knowledge"
COMPANY = PATH + "/{company}"
#: The source that holds what was uploaded here; it lies inside the company's own folder.
UPLOADS = "uploads"
Result = TypeVar("Result")


@dataclass
class Syncing:
    """A sync that runs or has ended: files done, an estimate, and its result or error."""

    source: str
    done: int = 0
    total: int = 0
    name: str = ""
    started_s: float = field(default_factory=time.monotonic)
    thread: threading.Thread | None = None
    result: Synced | None = None
    error: TriptychError | None = None

    @property
    def running(self) -> bool:
        """Return whether it has not ended."""
        return self.thread is not None and self.thread.is_alive()

    @property
    def left_s(self) -> float | None:
        """Return an estimate of the seconds that are left, from the files that were read."""
        if not self.done:
            return None
        return (time.monotonic() - self.started_s) / self.done * (self.total - self.done)

    def progress(self, done: int, total: int, name: str) -> None:
        """Take over what a sync reports from its thread."""
        self.done, self.total, self.name = done, total, name


@dataclass(frozen=True)
class At:
    """The company of a visit, and what the visitor may pick from."""

    company: str
    name: str
    accounts: Accounts

    @property
    def path(self) -> str:
        """Return the address of the company's documents."""
        return f"{PATH}/{self.company}"


class Place:
    """The documents of this machine."""

    def __init__(self) -> None:
        self.syncs: dict[str, Syncing] = {}

    @property
    def root(self) -> Path:
        """Return the folder with a folder for each company."""
        return environment.home() / "companies"

    @property
    def patterns(self) -> Path:
        """Return the folder of the abstraction tier."""
        return environment.home() / "abstraction"

    async def at(self, visit: Visit) -> At:
        """Return the company that a visit is about.

        Raises: NotFound for a company that is not the visitor's: neither learns whether it exists.
        """
        company = str(visit.path["company"])
        accounts = await read_accounts(visit)
        if company not in accounts.companies:
            raise NotFound(f"there is no company {company!r}", hint="choose one of the list")
        return At(company, accounts.company(company), accounts)

    async def library(self, work: Callable[[Library], Result]) -> Result:
        """Return what a function does with all stores, in a thread."""

        def worked() -> Result:
            with Library(self.root) as library:
                return work(library)

        return await asyncio.to_thread(worked)

    async def store(self, company: str, work: Callable[[Store], Result]) -> Result | None:
        """Return what a function reads or changes in a store; None where it has no documents."""

        def worked(library: Library) -> Result | None:
            if company not in library.companies():
                return None
            with library.store(company) as store:
                return work(store)

        return await self.library(worked)

    async def retriever(self, company: str, work: Callable[[Retriever], Result]) -> Result | None:
        """Return what a function finds with a retriever; None where there are no documents."""

        def worked(library: Library) -> Result | None:
            with library.reading(company) as retriever:
                return None if retriever is None else work(retriever)

        return await self.library(worked)

    async def uploads(self, company: str) -> Path:
        """Return the folder of uploads, added as a source that every member reads, if missing."""

        def made(library: Library) -> Path:
            with library.create(company) as store:
                folder = store.folder / UPLOADS
                folder.mkdir(mode=0o700, exist_ok=True)
                if UPLOADS not in store.sources():
                    store.set_source(UPLOADS, str(folder), [EVERYONE])
                return folder

        return await self.library(made)

    def start(self, company: str, source: str, folder: Path) -> Syncing:
        """Begin a sync unless one runs; the page may be closed meanwhile."""
        now = self.syncs.get(company)
        if now is not None and now.running:
            return now
        started = self.syncs[company] = Syncing(source)
        # A thread of its own outlives the request. Where this process stops, the next sync goes on
        # from what was read.
        started.thread = threading.Thread(
            target=self._sync, args=(company, folder, started), name=f"sync {company}", daemon=True
        )
        started.thread.start()
        return started

    def _sync(self, company: str, folder: Path, state: Syncing) -> None:
        try:
            with Library(self.root) as library, library.store(company) as store:
                state.result = sync(store, state.source, folder, progress=state.progress)
        except TriptychError as error:
            state.error = error
