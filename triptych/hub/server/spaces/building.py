"""From a commit to something that can be started: its tree, its card, its environment.

Everything a build says goes into the instance's build log. Building runs other people's code
(package set-up), so it is confined like the app itself, with a longer list of variables: it may
reach the package index the hub's administrator configured.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from triptych.config import environment
from triptych.errors import StorageError, TriptychError
from triptych.hub.server.names import require_path
from triptych.hub.server.repository import Repository
from triptych.hub.server.spaces import approvals, requirements
from triptych.hub.server.spaces.card import read_card
from triptych.hub.server.spaces.environments import Environments
from triptych.hub.server.spaces.instance import Instance
from triptych.hub.server.spaces.requirements import Requirements
from triptych.hub.server.spaces.services import WorkloadServices, hidden_folders
from triptych.hub.server.spaces.stages import SpaceFailed, Stage
from triptych.hub.server.storage.git.reading import open_repository, resolve
from triptych.hub.server.storage.hub import Hub
from triptych.hub.server.threads import in_long_thread, in_shielded_thread
from triptych.hub.server.workloads.isolation import INSTALL
from triptych.hub.server.workloads.logs import timestamp
from triptych.hub.server.workloads.workplace import Workplace, base_environment
from triptych.processes import Command, Limits, Supervisor

PYTHON = Path("bin", "python")
_PIP_VARIABLES = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy")


def checkout(hub: Hub, repository: Repository, sha: str, folder: Path) -> int:
    """Write the tree of a commit into a folder and return how many files it has.

    Links are written as the text of their target, never as links: a tree cannot point out of
    itself. Large files come only if this repository was given them.
    """
    snapshot = resolve(open_repository(hub.layout.repository(repository.uid)), sha)
    if snapshot.sha != sha:  # a branch of that name; the approval is the commit's
        raise StorageError(f"{sha} names another commit here", hint="delete the branch or tag")
    count = 0
    for entry in snapshot.files():
        path = folder / require_path(entry.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.pointer is None:
            path.write_bytes(snapshot.read(entry))
        else:
            held = hub.objects.holders(entry.pointer.sha256)
            if held is None or repository.id not in held[1]:
                raise StorageError(
                    f"the large file {entry.path} was never uploaded", hint="push it again"
                )
            hub.objects.copy_to(entry.pointer.sha256, path)
        count += 1
    return count


class Builder:
    """Turn instances into something startable, a few at a time."""

    def __init__(self, services: WorkloadServices) -> None:
        self.hub = services.hub
        self.supervisor = services.supervisor
        self.environments = Environments(services.folder / "environments")
        self._slots = asyncio.Semaphore(2)
        self._locks: dict[str, asyncio.Lock] = {}

    async def build(self, instance: Instance, repository: Repository, *, afresh: bool) -> None:
        """Fill an instance: tree, card, interpreter; `afresh` builds its environment again.

        Raises: SpaceFailed with the stage it leads to.
        """
        async with self._slots:
            instance.say(f"===== Build of {instance.sha} started at {timestamp()} =====")
            try:
                files = await in_shielded_thread(
                    checkout, self.hub, repository, instance.sha, instance.app
                )
                instance.say(f"{files} files of {repository.repo_id}")
                instance.card = await asyncio.to_thread(read_card, instance.app)
                if instance.card.sdk != "static":
                    await asyncio.to_thread(self._require_permission, repository, instance)
                    instance.python = await self._environment(instance, afresh=afresh)
            except SpaceFailed as failure:
                instance.say(f"{failure.stage}: {failure}")
                raise
            except (TriptychError, OSError) as error:
                instance.say(f"BUILD_ERROR: {error}")
                raise SpaceFailed(Stage.BUILD_ERROR, str(error)) from error
            instance.say(f"===== Build finished at {timestamp()} =====")

    async def _environment(self, instance: Instance, *, afresh: bool) -> Path:
        needed = await asyncio.to_thread(Requirements.read, instance.app)
        self._mention_limits(instance)
        unmet = await asyncio.to_thread(needed.unmet)
        if not unmet:
            instance.say("requirements are met by the running environment")
            return requirements.running_python()
        instance.say("not in the running environment: " + ", ".join(unmet))
        key = await asyncio.to_thread(needed.key, instance.sha)
        async with self._locks.setdefault(key, asyncio.Lock()):
            folder = await asyncio.to_thread(self.environments.current, key)
            if folder is not None and not afresh:
                instance.say(f"using environment {key}")
            else:
                folder = self.environments.new(key)
                await self._install(instance, needed, folder)
                await asyncio.to_thread(self.environments.settle, key, folder)
        return folder / PYTHON

    async def _install(self, instance: Instance, needed: Requirements, folder: Path) -> None:
        await self._run(instance, requirements.lay_foundation(folder), folder)
        await asyncio.to_thread(requirements.add_running_packages, folder)
        for command in requirements.install(folder, needed):
            await self._run(instance, command, folder)

    async def _run(self, instance: Instance, arguments: list[str], writable: Path) -> None:
        place = Workplace(
            instance.app, instance.home, writable=(writable,), hidden=hidden_folders(self.hub)
        )
        # Unpacked packages can be larger than the memory behind /tmp.
        scratch = instance.home / "scratch"
        scratch.mkdir(exist_ok=True)
        confined = await asyncio.to_thread(self.hub.isolation.confine, arguments, place)
        inherited = environment.snapshot()
        variables = base_environment(confined.home, writable / "bin", inherited)
        variables["TMPDIR"] = str(confined.home / scratch.name)
        variables |= {
            name: value for name, value in inherited.items() if name.startswith(_PIP_VARIABLES)
        }
        config = self.hub.config
        command = Command(
            name=f"{instance.name}-build",
            arguments=confined.arguments,
            log=instance.build_log.path,
            folder=confined.folder,
            environment=variables,
            limits=Limits(config.space_memory_bytes, config.space_processes),
            grace_s=2.0,
        )
        await _finish(self.supervisor, command, config.space_build_s)

    def _require_permission(self, repository: Repository, instance: Instance) -> None:
        """Refuse a commit that needs an approval and has none."""
        isolation = self.hub.isolation
        if isolation.isolates and not self.hub.config.require_approval:
            return
        if approvals.is_approved(self.hub.database, repository.id, instance.sha):
            return
        why = "" if not isolation.isolates else "; this hub's settings ask for it"
        raise SpaceFailed(
            Stage.CONFIG_ERROR,
            f"commit {instance.sha[:12]} waits for an administrator of this hub to approve it"
            + (why or f", because {isolation.summary}"),
            hint=f"triptych hub approve {repository.repo_id} {instance.sha}"
            + ("" if isolation.isolates else f"; or {INSTALL} and start the hub again"),
        )

    def _mention_limits(self, instance: Instance) -> None:
        if (instance.app / "packages.txt").is_file():
            instance.say("packages.txt is not installed here: install Debian packages on the host")
        if instance.card.preloads:
            instance.say("preload_from_hub is left to the app: the hub is on the same machine")
        wanted = instance.card.python_version
        if wanted and not requirements.is_running_version(wanted):
            instance.say(f"python_version {wanted} is not available here; using this hub's Python")


async def _finish(supervisor: Supervisor, command: Command, limit_s: float) -> None:
    """Run a command to its end.

    Raises: SpaceFailed (BUILD_ERROR) when it fails or takes longer than the limit.
    """
    try:
        await in_shielded_thread(supervisor.start, command)
        async with asyncio.timeout(limit_s):
            status = await in_long_thread(supervisor.wait, command.name)
    except TimeoutError as error:
        raise SpaceFailed(
            Stage.BUILD_ERROR, f"the build took longer than {limit_s:.0f} s"
        ) from error
    finally:
        await in_shielded_thread(supervisor.stop, command.name)
        supervisor.forget(command.name)
    if status.exit_code != 0:
        raise SpaceFailed(Stage.BUILD_ERROR, f"the build failed: {status.reason}")
