"""Starting a built instance: its command, its variables, waiting until it answers; its end."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import suppress

import aiohttp

from triptych.config import environment
from triptych.hub.server.repositories import variables
from triptych.hub.server.repository import Repository
from triptych.hub.server.spaces import approvals
from triptych.hub.server.spaces.instance import Instance
from triptych.hub.server.spaces.services import WorkloadServices, hidden_folders
from triptych.hub.server.spaces.stages import SpaceFailed, Stage
from triptych.hub.server.storage.git.reading import open_repository, resolve
from triptych.hub.server.storage.identity.oauth import space_credentials
from triptych.hub.server.threads import in_shielded_thread
from triptych.hub.server.workloads import hardware
from triptych.hub.server.workloads.workplace import Workplace, base_environment
from triptych.processes import Backoff, Command, Limits, free_port

PROBE_S = 0.1
PROBE_PATIENCE_S = 10.0


async def start(
    services: WorkloadServices, instance: Instance, repository: Repository, host: str
) -> None:
    """Start an instance's app and wait until it answers.

    Raises: SpaceFailed (RUNTIME_ERROR) when it ends or stays silent for too long.
    """
    if instance.card.sdk == "static":
        return
    instance.port = await in_shielded_thread(free_port)
    command = await asyncio.to_thread(_command, services, instance, repository, host)
    await in_shielded_thread(lambda: services.supervisor.start(command, backoff=Backoff()))
    await until_it_answers(services, instance, restarts=0)


async def end(services: WorkloadServices, instance: Instance) -> None:
    """End an instance's app and everything it left."""
    instance.answering = False
    await in_shielded_thread(services.supervisor.stop, instance.name)
    services.supervisor.forget(instance.name)
    instance.close_logs()
    await in_shielded_thread(instance.delete)


def meaning(services: WorkloadServices, repository: Repository, host: str) -> str:
    """Return what tells two starts of a Space apart; equal ones run the same app the same way."""
    git = open_repository(services.hub.layout.repository(repository.uid))
    tree = resolve(git, repository.head).entry("").oid
    settings = variables.reveal(services.hub, repository)
    approved = approvals.is_approved(services.hub.database, repository.id, repository.head)
    said = [tree, repository.repo_id, host, approved, settings]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


async def until_it_answers(
    services: WorkloadServices,
    instance: Instance,
    *,
    restarts: int,
    patience_s: float | None = None,
) -> None:
    """Wait for an answer of a process that was restarted this many times.

    The app itself says how long it may take to start; `patience_s` overrules it.

    Raises: SpaceFailed (RUNTIME_ERROR) when it ends or stays silent for too long.
    """
    address = f"http://127.0.0.1:{instance.port}/"
    patience = aiohttp.ClientTimeout(total=PROBE_PATIENCE_S)
    try:
        async with (
            asyncio.timeout(patience_s or instance.card.start_timeout_s),
            aiohttp.ClientSession(timeout=patience) as session,
        ):
            while True:
                _require_process(services, instance, restarts)
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(address, allow_redirects=False):
                        return
                await asyncio.sleep(PROBE_S)
    except TimeoutError as error:
        raise SpaceFailed(
            Stage.RUNTIME_ERROR,
            f"the app did not answer on port {instance.port} in time",
            hint="listen on the port in the variable PORT (Gradio does by itself)",
        ) from error


def _require_process(services: WorkloadServices, instance: Instance, restarts: int) -> None:
    status = services.supervisor.status(instance.name)
    if status is None or status.state != "running" or status.restarts != restarts:
        cause = status.reason.partition(";")[0] if status else "stopped"
        raise SpaceFailed(
            Stage.RUNTIME_ERROR,
            f"the app ended before it answered: {cause}",
            hint="see its run log",
        )


def _command(
    services: WorkloadServices, instance: Instance, repository: Repository, host: str
) -> Command:
    hub = services.hub
    place = Workplace(
        instance.app,
        instance.home,
        readable=(instance.python.parent.parent,),
        hidden=hidden_folders(hub),
        ports=(instance.port,),
    )
    confined = hub.isolation.confine([str(instance.python), instance.card.app_file], place)
    base = base_environment(confined.home, instance.python.parent, environment.snapshot())
    left_out = variables.withheld(hub, repository)
    if left_out:
        instance.note(
            "left out, since no administrator set them and nothing is isolated here: "
            + ", ".join(left_out)
        )
    values = {
        **base,
        **confined.variables,
        **_where_it_runs(services, instance, repository, host),
        **_sign_in(services, instance, repository),
        **variables.reveal(hub, repository),
        # The last word: an app that listened on another port could not be reached.
        "PORT": str(instance.port),
        "GRADIO_SERVER_PORT": str(instance.port),
        "GRADIO_SERVER_NAME": "127.0.0.1",
    }
    return Command(
        name=instance.name,
        arguments=confined.arguments,
        log=instance.run_log.path,
        folder=confined.folder,
        environment=values,
        limits=Limits(hub.config.space_memory_bytes, hub.config.space_processes),
        grace_s=5.0,
    )


def _sign_in(
    services: WorkloadServices, instance: Instance, repository: Repository
) -> dict[str, str]:
    """Return what an app needs to ask people who they are on this hub."""
    if not instance.card.signs_in:
        return {}
    client_id, secret = space_credentials(services.hub.vault, repository)
    return {
        "OAUTH_CLIENT_ID": client_id,
        "OAUTH_CLIENT_SECRET": secret,
        "OAUTH_SCOPES": " ".join(instance.card.scopes),
        "OPENID_PROVIDER_URL": services.hub.config.public_url.rstrip("/") or services.address,
    }


def _where_it_runs(
    services: WorkloadServices, instance: Instance, repository: Repository, host: str
) -> dict[str, str]:
    """Return the documented variables that tell an app where it runs, and who signs people in."""
    sign_in = {}
    if instance.card.oauth_scopes:
        client_id, secret = space_credentials(services.hub.vault, repository)
        sign_in = {
            "OAUTH_CLIENT_ID": client_id,
            "OAUTH_CLIENT_SECRET": secret,
            "OAUTH_SCOPES": instance.card.oauth_scopes,
            "OPENID_PROVIDER_URL": services.address,
        }
    return sign_in | {
        "SYSTEM": "spaces",
        "SPACE_ID": repository.repo_id,
        "SPACE_HOST": host.partition("://")[2],
        "SPACE_AUTHOR_NAME": repository.namespace,
        "SPACE_REPO_NAME": repository.name,
        "SPACE_REPO_SHA": instance.sha,
        "SPACE_TITLE": instance.card.title,
        "ACCELERATOR": "none",
        "CPU_CORES": str(hardware.cores()),
        "MEMORY": f"{services.hub.config.space_memory_bytes / 2**30:g}Gi",
        "HF_ENDPOINT": services.address,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
