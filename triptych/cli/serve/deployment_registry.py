"""Write a deployment into the gateway's registry: what happened, of what, grown from what.

The hub wing deploys and the tiers wing keeps the registry; neither knows the other, so that the
verbs which deploy hand the one's outcome to the other here.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych.hub.client import Hub
    from triptych.hub.ledger import Deployment
    from triptych.tiers.store.database import Database

ACTOR = "command line"


def record(hub: Hub, tier: str, deployment: Deployment) -> None:
    """Write down how a deployment to a tier's Space ended; a database that is away is said.

    A failure to write down undoes nothing: the Space serves what it serves.
    """
    from triptych.errors import StorageError
    from triptych.tiers.store import deployments

    if deployment.state not in ("live", "failed", "rolled_back"):
        return  # on its way
    done = deployments.Deployed(
        deployment_id=deployment.id,
        space=deployment.space,
        repo_id=deployment.pin.model,
        revision=deployment.pin.revision,
        status=deployment.state,
        tier=tier,
        space_url=_address(hub, deployment.space),
        log="\n".join(f"{change.state} {change.note}".strip() for change in deployment.history),
        lineage=lineage(hub, deployment),
    )

    async def work(database: Database) -> None:
        await deployments.write_down(database, done, actor=ACTOR)

    try:
        asyncio.run(_with_database(work))
    except StorageError as error:
        print(f"not in the gateway's registry: {error.message}", file=sys.stderr)


def enter_tiers(names: Mapping[str, str], hardware: Mapping[str, str], *, private: bool) -> None:
    """Enter the tiers' Spaces at the gateway and switch them on; a running one serves at once.

    A switch that an admin has set before stays as it is.
    """
    from triptych.tiers.store import flags, upstreams

    async def work(database: Database) -> None:
        for tier, space_id in names.items():
            values = {
                "provider": "hf_spaces", "address": space_id, "models": {tier: ""},
                "company_id": None, "key_name": "HF_TOKEN" if private else "", "external": None,
                "revision": "", "hardware": hardware.get(tier, ""), "is_active": True,
            }  # fmt: skip
            await upstreams.save_upstream(database, f"space-{tier}", values, actor=ACTOR)
        wanted = {"provider.hf_spaces", *(f"tier.{tier}" for tier in names)}
        for row in await flags.listed(database):
            if row["key"] in wanted and row["version"] == 0:
                await flags.set_flag(database, row["key"], True, actor=ACTOR)

    asyncio.run(_with_database(work))


async def _with_database(work: Any) -> None:
    from triptych.config import load_config
    from triptych.tiers.store import migrations
    from triptych.tiers.store.database import Database

    database = Database(load_config().gateway.database_url)
    try:
        await migrations.upgrade(database)
        await work(database)
    finally:
        await database.close()


def _address(hub: Hub, space: str) -> str | None:
    from triptych.errors import HubError
    from triptych.hub.repository import Repo

    try:
        return hub.space(Repo.parse(space, "space")).url
    except HubError:
        return None


def lineage(hub: Hub, deployment: Deployment) -> dict[str, Any]:
    """Read where a model came from out of the record that was published with it."""
    from triptych.errors import HubError
    from triptych.hub.cards import RECORD_FILE
    from triptych.hub.repository import Repo

    try:
        raw = hub.read(Repo.parse(deployment.pin.model), RECORD_FILE, deployment.pin.revision)
        record = json.loads(raw)
    except (HubError, ValueError):
        return {}  # a model that Triptych did not train has no record of ours
    run, config = record.get("run") or {}, record.get("config") or {}
    evaluations = record.get("evaluations") or []
    return {
        "run_id": run.get("run_id"),
        "parent_model_id": (run.get("parent") or None) and str(run["parent"])[:64],
        "dataset_hash": (run.get("data_fingerprint") or None) and str(run["data_fingerprint"])[:64],
        "evaluation": evaluations[-1] if evaluations else None,
        "hyperparameters": config.get("recipe") or None,
    }


def tier_of(space: str) -> str | None:
    """Return the tier of a Space by the names that the environment gives the tiers' Spaces."""
    from triptych.config import environment
    from triptych.wire.tiers import SPACES

    name = space.rpartition("/")[2]
    for tier, (variable, default) in SPACES.items():
        if name == (environment.get(variable) or default).rpartition("/")[2]:
            return tier
    return None
