"""The whole table of routes: the hot ones that `api` answers itself, and those of every subject."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from triptych.tiers.admin import (
    accounts,
    budgets,
    deployments,
    feedback,
    flags,
    generation,
    kept_responses,
    knowledge,
    privacy,
    requests,
    secrets,
    session,
    shadows,
    upstreams,
)
from triptych.tiers.admin.openapi import describe
from triptych.tiers.admin.routing import Body, Route, RouteCall, Routes


class AnyBody(Body):
    """A body that `bodies` checks."""

    model_config = ConfigDict(extra="allow")


HOT: tuple[Route, ...] = (
    Route("POST", "/v1/chat/completions", "user", None, "Answer a chat.", AnyBody),
    Route("POST", "/v1/completions", "user", None, "Continue a text.", AnyBody),
    Route("POST", "/v1/responses", "user", None, "Answer in the shape of Responses.", AnyBody),
    Route("POST", "/v1/messages", "user", None, "Answer in Anthropic's shape.", AnyBody),
    Route("POST", "/v1/messages/count_tokens", "user", None, "Count tokens.", AnyBody),
    Route("POST", "/api/query", "user", None, "Answer in the originals' shape.", AnyBody),
    Route("GET", "/v1/models", "user", None, "List tiers and models."),
    Route("GET", "/health", "anyone", None, "Say that the process is alive."),
    Route("GET", "/ready", "anyone", None, "Say whether requests can be answered."),
    Route("GET", "/metrics", "anyone", None, "Give Prometheus its metrics."),
)

_own = Routes()


@_own.add("GET", "/openapi.json", "anyone")
async def openapi(call: RouteCall) -> Any:
    """Describe every route."""
    return describe(TABLE)


TABLE: tuple[Route, ...] = (
    *HOT,
    *_own.table,
    *generation.routes.table,
    *kept_responses.routes.table,
    *feedback.routes.table,
    *knowledge.routes.table,
    *requests.routes.table,
    *flags.routes.table,
    *upstreams.routes.table,
    *shadows.routes.table,
    *accounts.routes.table,
    *session.routes.table,
    *budgets.routes.table,
    *secrets.routes.table,
    *privacy.routes.table,
    *deployments.routes.table,
)
