"""Routes over feature flags: list, set, roll out, override, revert; and OFREP for other programs.

Source: https://openfeature.dev/specification, OpenFeature Remote Evaluation Protocol 0.2.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

from openfeature.exception import FlagNotFoundError, OpenFeatureError
from pydantic import Field

from triptych.errors import Forbidden, InvalidQuery
from triptych.tiers.admin.routing import Body, RouteCall, Routes, json_response
from triptych.tiers.rules import preview
from triptych.tiers.rules.acting import acting_user
from triptych.tiers.rules.flags import REGISTRY, evaluation_context, spec_of
from triptych.tiers.store import flags as store
from triptych.tiers.store import interactions

routes = Routes()
SubjectId = Annotated[str, Field(min_length=1, max_length=64)]


class FlagChange(Body):
    """A new value, with the version it replaces."""

    value: bool | str
    targeting: dict[str, Any] | None = None
    expected_version: int | None = None


class Rollout(Body):
    """A share of users or companies for whom a switch is on."""

    percentage: float = Field(ge=0, le=100)
    by: Literal["user", "company"] = "user"
    expected_version: int | None = None


class Supposed(Body):
    """A flag as it would be: for everybody, by a rule, or for a share."""

    value: bool | str = False
    targeting: dict[str, Any] | None = None
    percentage: float | None = Field(default=None, ge=0, le=100)
    by: Literal["user", "company"] = "user"


class Supposition(Body):
    """Changes whose effect is asked."""

    changes: dict[str, Supposed] = Field(min_length=1, max_length=20)


class Override(Body):
    """A value for one user or one company; null clears it."""

    value: bool | str | None


class Definitions(Body):
    """A whole set of flagd definitions."""

    flags: dict[str, dict[str, Any]]


class Evaluation(Body):
    """OFREP's evaluation context."""

    context: dict[str, Any] = Field(default_factory=dict)


@routes.add("GET", "/admin/flags", "admin")
async def list_flags(call: RouteCall) -> Any:
    """List every flag with its definition, version and overrides."""
    return {
        "flags": await store.listed(call.runtime.database),
        "version": call.runtime.flags.version,
        "stale": call.runtime.flags.stale,
        "killed": sorted(call.runtime.flags.provider.killed),
    }


@routes.add("PUT", "/admin/flags/{key}", "admin", body=FlagChange)
async def set_flag(call: RouteCall) -> Any:
    """Set a flag for everybody, with or without a targeting rule."""
    change: FlagChange = call.body
    version = await store.set_flag(
        call.runtime.database,
        call.path["key"],
        change.value,
        actor=call.actor,
        targeting=change.targeting,
        expected_version=change.expected_version,
    )
    await call.runtime.refresh()
    return {"key": call.path["key"], "version": version}


@routes.add("PUT", "/admin/flags/{key}/rollout", "admin", body=Rollout)
async def roll_out(call: RouteCall) -> Any:
    """Turn a switch on for a share of users or companies."""
    change: Rollout = call.body
    key = call.path["key"]
    if spec_of(key).choices:
        raise InvalidQuery(f"{key} is no switch", hint="set its value instead")
    version = await store.set_flag(
        call.runtime.database,
        key,
        False,
        actor=call.actor,
        targeting=store.rollout(change.percentage, by=change.by),
        expected_version=change.expected_version,
    )
    await call.runtime.refresh()
    return {"key": key, "version": version}


@routes.add("POST", "/admin/flags/preview", "admin", body=Supposition)
async def preview_flags(call: RouteCall) -> Any:
    """Return what changes would have meant for the last hour's requests; changes nothing."""
    runtime = call.runtime
    changes = {
        key: preview.Change(
            one.value,
            one.targeting if one.percentage is None else store.rollout(one.percentage, by=one.by),
        )
        for key, one in call.body.changes.items()
    }
    now = runtime.flags.provider.flags
    rows = await interactions.decided(runtime.database, since=time.time() - 3600.0)
    return await asyncio.to_thread(
        preview.preview,
        runtime.selector,
        now,
        preview.changed(now, changes),
        rows,
        runtime.companies(),
        runtime.flags.provider.killed,
    )


@routes.add("PUT", "/admin/flags/{key}/overrides/{scope}/{subject_id}", "admin", body=Override)
async def set_override(call: RouteCall) -> Any:
    """Set or clear a flag for one user or one company."""
    scope, subject = call.path["scope"], call.path["subject_id"]
    if scope not in ("user", "company") or len(subject) > 64:
        raise InvalidQuery("an override is for a user or a company", param="scope")
    await store.set_override(
        call.runtime.database,
        call.path["key"],
        "user" if scope == "user" else "company",
        subject,
        call.body.value,
        actor=call.actor,
    )
    await call.runtime.refresh()
    return {"key": call.path["key"], "scope": scope, "subject_id": subject}


@routes.add("PUT", "/admin/flags", "admin", body=Definitions)
async def replace_flags(call: RouteCall) -> Any:
    """Take a whole set of flagd definitions, or refuse it whole."""
    versions = await store.replace_all(call.runtime.database, call.body.flags, actor=call.actor)
    await call.runtime.refresh()
    return {"versions": versions}


@routes.add("POST", "/admin/flags/revert/{sequence:int}", "admin")
async def revert(call: RouteCall) -> Any:
    """Undo one audited change of flags."""
    sequence = min(int(call.path["sequence"]), 2**31)
    versions = await store.revert(call.runtime.database, sequence, actor=call.actor)
    await call.runtime.refresh()
    return {"versions": versions}


# -- OFREP ---------------------------------------------------------------------------------------


def _context(call: RouteCall) -> Any:
    given = call.body.context
    user, company = given.get("targetingKey"), given.get("company_id")
    texts = [value for value in (user, company, given.get("feature")) if value is not None]
    if not all(isinstance(value, str) and len(value) <= 64 for value in texts):
        raise InvalidQuery("targetingKey, company_id and feature are texts", param="context")
    if call.principal.role != "admin" and company and not call.principal.member_of(company):
        raise Forbidden("you are not a member of this company", code="not_a_member")
    return evaluation_context(acting_user(call.principal, user), company, given.get("feature"))


def _evaluate(call: RouteCall, key: str, context: Any) -> dict[str, Any]:
    provider = call.runtime.flags.provider
    spec = spec_of(key)
    resolve: Any = (
        provider.resolve_string_details if spec.choices else provider.resolve_boolean_details
    )
    details = resolve(key, spec.default, context)
    return {
        "key": key,
        "value": details.value,
        "reason": str(details.reason),
        "variant": details.variant,
        "metadata": {"version": call.runtime.flags.version},
    }


@routes.add("POST", "/ofrep/v1/evaluate/flags/{key}", "user", body=Evaluation)
async def evaluate_flag(call: RouteCall) -> Any:
    """Evaluate one flag for an OpenFeature client."""
    key = call.path["key"]
    if key not in REGISTRY:
        return json_response({"key": key, "errorCode": "FLAG_NOT_FOUND"}, 404)
    try:
        return _evaluate(call, key, _context(call))
    except FlagNotFoundError:
        return json_response({"key": key, "errorCode": "FLAG_NOT_FOUND"}, 404)
    except OpenFeatureError as error:
        return json_response({"key": key, "errorCode": str(error.error_code)}, 400)


@routes.add("POST", "/ofrep/v1/evaluate/flags", "user", body=Evaluation)
async def evaluate_all(call: RouteCall) -> Any:
    """Evaluate every flag for an OpenFeature client; unchanged flags answer 304."""
    tag = f'"{call.runtime.flags.version}"'
    if call.headers.get("if-none-match") == tag:
        return json_response(None, 304, {"etag": tag})
    context = _context(call)
    found = [_evaluate(call, key, context) for key in REGISTRY]
    return json_response({"flags": found}, headers={"etag": tag})
