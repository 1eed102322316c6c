"""Routes over upstreams, prompts and models: enter, test, reset, write, register."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Annotated, Any, Literal

from pydantic import Field

from triptych.config.gateway import UpstreamConfig
from triptych.errors import ConfigError, InvalidQuery, NotFound, UpstreamError
from triptych.tiers.admin.routing import Body, RouteCall, Routes
from triptych.tiers.rules import catalogue
from triptych.tiers.rules.egress import check_address, parse_address
from triptych.tiers.store import upstreams as store
from triptych.wire.tiers import CHALLENGERS, TIERS, Tier

routes = Routes()
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
_PROBE_S = 60.0


class NewUpstream(Body):
    """An address that answers for one or more tiers."""

    provider: Literal["openai", "anthropic", "gemini", "hf_spaces", "local", "scripted"]
    address: str = Field(default="", max_length=500)
    models: dict[Name, str] = Field(default_factory=lambda: {"base": ""}, min_length=1)
    company_id: str | None = Field(default=None, max_length=64)
    key_name: str = Field(default="", max_length=64)
    external: bool | None = None
    revision: str = Field(default="", max_length=64)
    hardware: str = Field(default="", max_length=64)
    is_active: bool = True
    expected_version: int | None = None


class NewPrompt(Body):
    """A new version of a tier's system prompt."""

    text: str = Field(max_length=20_000)


class NewModel(Body):
    """A model with its lineage."""

    name: str = Field(min_length=1, max_length=128)
    tier: Tier
    company_id: str | None = Field(default=None, max_length=64)
    hf_model_id: str | None = Field(default=None, max_length=128)
    hf_space_id: str | None = Field(default=None, max_length=128)
    hf_space_url: str | None = Field(default=None, max_length=500)
    revision: str | None = Field(default=None, max_length=64)
    parent_model_id: str | None = Field(default=None, max_length=64)
    dataset_hash: str | None = Field(default=None, max_length=64)
    run_id: str | None = Field(default=None, max_length=64)
    evaluation: dict[str, Any] | None = None
    hyperparameters: dict[str, Any] | None = None
    is_active: bool = False
    is_tainted: bool = False


@routes.add("GET", "/admin/upstreams", "admin")
async def list_upstreams(call: RouteCall) -> Any:
    """List every upstream with its breaker and what it serves."""
    runtime = call.runtime
    rows = {row["name"]: row for row in await store.entered(runtime.database)}
    found = []
    for name, upstream in runtime.selector.catalogue.upstreams.items():
        breaker = runtime.dispatcher.breakers[name]
        provider = runtime.dispatcher.providers[name]
        found.append(
            {
                **dataclasses.asdict(upstream),
                "models": dict(upstream.models),
                "source": "entered" if name in rows else "configuration",
                "version": rows[name]["version"] if name in rows else 0,
                "breaker": breaker.state,
                "breaker_retry_after_s": breaker.retry_after_s(),
                "dialect": getattr(provider, "dialect", ""),
            }
        )
    inactive = [row for row in rows.values() if not row["is_active"]]
    return {
        "upstreams": found,
        "inactive": inactive,
        "out_of_service": list(runtime.out_of_service),
    }


@routes.add("PUT", "/admin/upstreams/{name}", "admin", body=NewUpstream)
async def save_upstream(call: RouteCall) -> Any:
    """Enter or change an upstream; the next request sees it."""
    body: NewUpstream = call.body
    name = _name(call)
    if any(upstream.name == name for upstream in call.runtime.declared):
        raise InvalidQuery(f"{name} is set by the configuration file", param="name")
    values = body.model_dump(exclude={"expected_version"})
    try:
        config = UpstreamConfig(
            **{k: v for k, v in values.items() if k not in ("company_id", "is_active")}
        )
        upstream = catalogue.build(name, config, trusted=False)
    except ConfigError as error:
        raise InvalidQuery(error.message, hint=error.hint, param="address") from error
    if body.provider != "scripted" and (body.provider != "hf_spaces" or "://" in body.address):
        _refuse_inside(call, upstream.address)
    version = await store.save_upstream(
        call.runtime.database,
        name,
        values,
        actor=call.actor,
        expected_version=body.expected_version,
    )
    await call.runtime.refresh()
    return {"name": name, "version": version}


def _refuse_inside(call: RouteCall, address: str) -> None:
    try:
        check_address(
            parse_address(address), private_allowed=call.runtime.config.allow_private_addresses
        )
    except UpstreamError as error:
        raise InvalidQuery(error.message, hint=error.hint, param="address") from error


def _name(call: RouteCall) -> str:
    name = call.path["name"]
    if len(name) > 64 or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise InvalidQuery("a name is of letters, digits, - _ and .", param="name")
    return name


@routes.add("DELETE", "/admin/upstreams/{name}", "admin")
async def remove_upstream(call: RouteCall) -> Any:
    """Take an entered upstream away."""
    await store.remove_upstream(call.runtime.database, _name(call), actor=call.actor)
    await call.runtime.refresh()
    return {"name": _name(call)}


@routes.add("POST", "/admin/upstreams/{name}/test", "admin")
async def test_upstream(call: RouteCall) -> Any:
    """Test a connection with a real request; writes nothing, flips no flag."""
    provider = call.runtime.dispatcher.providers.get(call.path["name"])
    if provider is None:
        raise NotFound(f"there is no upstream {call.path['name'][:64]!r}")
    start = time.monotonic()
    try:
        async with asyncio.timeout(_PROBE_S):
            probe = await provider.probe()
    except TimeoutError:
        return {
            "ok": False,
            "latency_s": time.monotonic() - start,
            "error_code": "upstream_timeout",
            "message": f"no answer within {_PROBE_S:g} s",
        }
    return {
        "tiers": [t for t in provider.upstream.models if t in TIERS],
        **dataclasses.asdict(probe),
    }


@routes.add("POST", "/admin/upstreams/{name}/breaker/reset", "admin")
async def reset_breaker(call: RouteCall) -> Any:
    """Close a breaker by hand, here at once and in every other worker with its next poll."""
    breaker = call.runtime.dispatcher.breakers.get(call.path["name"])
    if breaker is None:
        raise NotFound(f"there is no upstream {call.path['name'][:64]!r}")
    breaker.reset()
    call.runtime.news.tell(call.path["name"], "closed")
    return {"name": call.path["name"], "breaker": breaker.state}


@routes.add("GET", "/admin/prompts", "admin")
async def list_prompts(call: RouteCall) -> Any:
    """List every version of every tier's system prompt."""
    return {"prompts": await store.list_prompts(call.runtime.database)}


@routes.add("POST", "/admin/prompts/{tier}", "admin", body=NewPrompt)
async def add_prompt(call: RouteCall) -> Any:
    """Write a new version of the system prompt of a tier or its challenger, and use it."""
    tier = _tier(call)
    version = await store.add_prompt(call.runtime.database, tier, call.body.text, actor=call.actor)
    await call.runtime.refresh()
    return {"tier": tier, "version": version}


@routes.add("PUT", "/admin/prompts/{tier}/active/{version:int}", "admin")
async def activate_prompt(call: RouteCall) -> Any:
    """Use an earlier version of a tier's system prompt; 0 uses none."""
    tier, version = _tier(call), min(int(call.path["version"]), 2**31 - 1)
    await store.activate_prompt(call.runtime.database, tier, version, actor=call.actor)
    await call.runtime.refresh()
    return {"tier": tier, "version": version}


def _tier(call: RouteCall) -> str:
    if call.path["tier"] not in (*TIERS, *CHALLENGERS):
        raise NotFound(f"there is no tier {call.path['tier'][:32]!r}")
    return call.path["tier"]


@routes.add("GET", "/api/models", "company_admin", query=("company_id",))
async def list_models(call: RouteCall) -> Any:
    """List registered models with their lineage."""
    return {"models": await store.list_models(call.runtime.database, call.scope())}


@routes.add("POST", "/admin/models", "admin", body=NewModel)
async def register_model(call: RouteCall) -> Any:
    """Register a model: what was trained, from what, measured how, served where."""
    values = call.body.model_dump()
    scope = call.scope(values["company_id"], reason="an admin registers a model")
    model_id = await store.register_model(call.runtime.database, values, scope, actor=call.actor)
    return {"model_id": model_id}
