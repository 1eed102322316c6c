"""Routes over deployments: what happened to the Spaces, believed when the Space itself says so."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from pydantic import Field

from triptych.errors import EditConflict
from triptych.tiers.admin.routing import Body, RouteCall, Routes
from triptych.tiers.providers.base import Provider
from triptych.tiers.rules.catalogue import space_id
from triptych.tiers.store import deployments as store
from triptych.wire.tiers import TIERS, Tier

routes = Routes()
_RepoId = Annotated[str, Field(min_length=3, max_length=128, pattern=r"^[\w.-]+/[\w.-]+$")]


class NewDeployment(Body):
    """A deployment that another program carried out, to be recorded."""

    space: _RepoId
    repo_id: _RepoId
    revision: str = Field(pattern=r"^[0-9a-f]{7,64}$")
    status: store.Status
    deployment_id: str = Field(default="", max_length=64)
    tier: Tier = "base"
    company_id: str | None = Field(default=None, max_length=64)
    log: str = Field(default="", max_length=20_000)
    lineage: dict[str, Any] = Field(default_factory=dict, max_length=5)


@routes.add("GET", "/admin/deployments", "admin", query=("space", "limit"))
async def list_deployments(call: RouteCall) -> Any:
    """List deployments with how each ended, newest first."""
    rows = await store.listed(
        call.runtime.database,
        space=call.query.get("space"),
        limit=call.number("limit", 100, 1, 500),
    )
    return {"deployments": rows}


@routes.add("POST", "/admin/deployments", "admin", body=NewDeployment)
async def write_down(call: RouteCall) -> Any:
    """Write a deployment down; a live one only if the Space itself answers with the revision."""
    body: NewDeployment = call.body
    tier = body.tier
    if body.status == "live":
        provider = _serving(call, body.space)
        probe = await provider.probe()
        if not probe.ok or not _same(probe.revision, body.revision):
            said = probe.revision or probe.message or "nothing"
            raise EditConflict(
                f"{body.space} answers with {said[:80]}, not with {body.revision[:12]}",
                hint="deploy it first; a deployment is live when the Space says so itself",
                code="not_live",
            )
        tier = next((t for t in TIERS if t in provider.upstream.models), body.tier)
    done = store.Deployed(
        deployment_id=body.deployment_id or "dpl_" + secrets.token_hex(8),
        space=body.space,
        repo_id=body.repo_id,
        revision=body.revision,
        status=body.status,
        tier=tier,
        company_id=body.company_id,
        log=body.log,
        lineage=body.lineage,
    )
    model_id = await store.write_down(call.runtime.database, done, actor=call.actor)
    return {"deployment_id": done.deployment_id, "model_id": model_id, "status": done.status}


def _serving(call: RouteCall, space: str) -> Provider:
    """Find the upstream that is this Space.

    Raises: EditConflict when no upstream is.
    """
    for name, upstream in call.runtime.selector.catalogue.upstreams.items():
        if upstream.provider != "hf_spaces":
            continue
        own = upstream.address if "://" in upstream.address else space_id(upstream.address)
        if own == space:
            return call.runtime.dispatcher.providers[name]
    raise EditConflict(
        f"no upstream is the Space {space}",
        hint="enter it with its tier first, then what it serves can be asked",
        code="unknown_space",
    )


def _same(said: str, wanted: str) -> bool:
    return bool(said) and (said.startswith(wanted) or wanted.startswith(said))
