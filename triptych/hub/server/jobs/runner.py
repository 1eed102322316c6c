"""Running jobs: a few at a time, each confined, within its time, with its log kept.

A job that waited when the hub went down waits again when it is back; one that ran then has
failed, and says so. Jobs on a Space's tree use the Space's own environment.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from contextlib import suppress
from pathlib import Path

from triptych.config import environment
from triptych.errors import ProcessError, RepositoryNotFound, TriptychError
from triptych.hub.server.jobs import records
from triptych.hub.server.jobs.records import OVER, Job, Stage
from triptych.hub.server.repositories import catalog
from triptych.hub.server.spaces.building import Builder
from triptych.hub.server.spaces.instance import Instance
from triptych.hub.server.spaces.requirements import running_python
from triptych.hub.server.spaces.services import WorkloadServices, hidden_folders
from triptych.hub.server.storage.hub import Hub
from triptych.hub.server.threads import in_shielded_thread
from triptych.hub.server.workloads import hardware
from triptych.hub.server.workloads.isolation import INSTALL
from triptych.hub.server.workloads.logs import POLL_S, LogBook, timestamp
from triptych.hub.server.workloads.workplace import Workplace, base_environment
from triptych.processes import Backoff, Command, Limits, Status, Supervisor

log = logging.getLogger(__name__)
KEPT_S = 30 * 86400
_FOREVER_S = 10**9


class Jobs:
    """Run the jobs of a hub; use as `await open()` ... `await close()`."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.folder: Path = hub.layout.root / "jobs"
        self.supervisor: Supervisor
        self._services: WorkloadServices
        self._builder: Builder
        self._slots = asyncio.Semaphore(hub.config.job_slots)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._books: dict[str, LogBook] = {}
        self._ticker: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Reap, settle what was under way, and go on with what waits."""
        self.supervisor = await asyncio.to_thread(Supervisor, self.folder / "processes")
        address = self.hub.local_address
        files = await asyncio.to_thread(self.hub.isolation.folder, self.folder)
        self._services = WorkloadServices(self.hub, self.supervisor, files, address)
        self._builder = Builder(self._services)
        await asyncio.to_thread(self._builder.environments.sweep)
        for job in await asyncio.to_thread(self._settle):
            self._begin(job)
        self._ticker = asyncio.create_task(self._tick())

    async def close(self) -> None:
        """Stop what runs; what waits goes on at the next start."""
        if self._ticker is not None:
            self._ticker.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticker
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel("the hub stopped")
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.to_thread(self.supervisor.close)

    def submit(self, job: Job) -> None:
        """Put a job into the queue."""
        self._begin(job)

    async def cancel(self, job: Job) -> None:
        """End a job; one that is over stays as it is."""
        await asyncio.to_thread(records.end, self.hub.database, job.id, Stage.CANCELED, "")
        task = self._tasks.get(job.id)
        if task is not None:
            task.cancel("cancelled")
            await asyncio.wait([task])

    def book(self, job: Job) -> LogBook:
        """Return a job's log."""
        book = self._books.get(job.id)
        if book is None:
            book = LogBook(self._log_path(job.id))
            book.poll()
            if job.stage in OVER:
                book.close()
            else:
                self._books[job.id] = book
        return book

    def status(self, job_id: str) -> Status | None:
        """Return what a job's process does."""
        return self.supervisor.status(_name(job_id))

    def _settle(self) -> list[Job]:
        database = self.hub.database
        for job in records.of_stages(database, [Stage.RUNNING]):
            records.end(database, job.id, Stage.ERROR, "the hub stopped while this job ran")
            shutil.rmtree(self._work(job.id), ignore_errors=True)
        for job_id in records.older_than(database, time.time() - KEPT_S):
            records.delete(database, job_id)
            shutil.rmtree(self.folder / job_id, ignore_errors=True)
        return records.of_stages(database, [Stage.SCHEDULING])

    def _begin(self, job: Job) -> None:
        self._books[job.id] = LogBook(self._log_path(job.id))
        task = asyncio.create_task(self._run(job))
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))

    async def _run(self, job: Job) -> None:
        database = self.hub.database
        try:
            async with self._slots:
                if not await asyncio.to_thread(records.start, database, job.id):
                    return
                stage, message = await self._attempt(job)
            await asyncio.to_thread(records.end, database, job.id, stage, message)
        except asyncio.CancelledError as error:
            running = await asyncio.to_thread(records.by_id, database, job.id)
            if running is not None and running.stage is Stage.RUNNING:
                await asyncio.to_thread(
                    records.end, database, job.id, Stage.ERROR, str(error) or "the hub stopped"
                )
        except Exception as error:  # boundary: the run worker; no other task awaits this one
            log.exception("the job %s failed inside the hub", job.id)
            message = f"the hub failed: {type(error).__name__}; its log says why"
            await asyncio.to_thread(records.end, database, job.id, Stage.ERROR, message)
        finally:
            await in_shielded_thread(self.supervisor.stop, _name(job.id))
            self.supervisor.forget(_name(job.id))
            self._books.pop(job.id).close()
            await in_shielded_thread(lambda: shutil.rmtree(self._work(job.id), ignore_errors=True))

    async def _attempt(self, job: Job) -> tuple[Stage, str]:
        """Run a job to its end and say how it ended."""
        asked = job.specification
        try:
            command = await self._prepare(job)
            backoff = Backoff(attempts=asked.attempts, healthy_s=_FOREVER_S, only_failures=True)
            self._say(job.id, f"===== Job started at {timestamp()} =====")
            await in_shielded_thread(lambda: self.supervisor.start(command, backoff=backoff))
            async with asyncio.timeout(asked.timeout_s):
                status = await self._finished(job.id)
        except TimeoutError:
            return Stage.ERROR, f"Job timeout: it ran longer than {asked.timeout_s} s"
        except (TriptychError, OSError) as error:
            self._say(job.id, str(error))
            return Stage.ERROR, str(error)
        if status.exit_code == 0:
            return Stage.COMPLETED, ""
        return Stage.ERROR, f"Job failed: {status.reason}"

    async def _finished(self, job_id: str) -> Status:
        said = ""
        while True:
            status = self.supervisor.status(_name(job_id))
            assert status is not None, "forgotten only after this task is done"
            if status.state in ("stopped", "exited"):
                return status
            if status.reason != said:
                said = status.reason
                await asyncio.to_thread(records.say, self.hub.database, job_id, said)
            await asyncio.sleep(POLL_S / 2)

    async def _prepare(self, job: Job) -> Command:
        isolation = self.hub.isolation
        if not isolation.isolates and not await asyncio.to_thread(
            _is_admin, self.hub, job.account_id
        ):
            raise ProcessError(
                f"only an administrator of this hub may run jobs here: {isolation.summary}",
                hint=f"{INSTALL} and start the hub again, or let an administrator run the job",
            )
        work = self._work(job.id)
        await in_shielded_thread(lambda: shutil.rmtree(work, ignore_errors=True))
        instance = Instance.plan(work, "job", "")
        await in_shielded_thread(instance.create_folders)
        instance.python = running_python()
        if job.specification.space_id:
            await self._take_tree_of_space(job, instance)
        return await asyncio.to_thread(self._command, job, instance)

    async def _take_tree_of_space(self, job: Job, instance: Instance) -> None:
        namespace, _, name = job.specification.space_id.partition("/")
        repository = await asyncio.to_thread(
            catalog.find, self.hub.database, "space", namespace, name
        )
        if repository is None:
            raise RepositoryNotFound(f"There is no Space {job.specification.space_id}")
        instance.sha = repository.head
        instance.build_log = self._books[job.id]
        await self._builder.build(instance, repository, afresh=False)

    def _command(self, job: Job, instance: Instance) -> Command:
        config, asked = self.hub.config, job.specification
        place = Workplace(
            instance.app,
            instance.home,
            readable=(instance.python.parent.parent,),
            hidden=hidden_folders(self.hub),
            ports=(0,),  # the kernel chooses one, so that none of a service can be taken
        )
        confined = self.hub.isolation.confine(list(asked.command), place)
        base = base_environment(confined.home, instance.python.parent, environment.snapshot())
        values = {
            **base,
            **confined.variables,
            "JOB_ID": job.id,
            "ACCELERATOR": "none",
            "CPU_CORES": str(hardware.cores()),
            "MEMORY": f"{config.space_memory_bytes / 2**30:g}Gi",
            "HF_ENDPOINT": self._services.address,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **asked.environment,
            **records.reveal(self.hub.database, self.hub.vault, job.id),
        }
        return Command(
            name=_name(job.id),
            arguments=confined.arguments,
            log=self._log_path(job.id),
            folder=confined.folder,
            environment=values,
            limits=Limits(config.space_memory_bytes, config.space_processes),
            grace_s=5.0,
        )

    def _say(self, job_id: str, line: str) -> None:
        path = self._log_path(job_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _log_path(self, job_id: str) -> Path:
        return self.folder / job_id / "output.log"

    def _work(self, job_id: str) -> Path:
        return self.hub.isolation.folder(self.folder) / job_id / "work"

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            for book in list(self._books.values()):
                book.poll()


def _name(job_id: str) -> str:
    return f"job-{job_id}"


def _is_admin(hub: Hub, account_id: int) -> bool:
    row = hub.database.one("SELECT is_admin FROM accounts WHERE id = ?", account_id)
    return row is not None and bool(row["is_admin"])
