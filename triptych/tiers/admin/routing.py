"""Declare a route with the role it needs; everything else follows from the declaration.

A handler gets a `RouteCall` whose caller was already authenticated and found worthy, and whose body
was already checked. A route without a role cannot be declared.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from triptych.errors import Forbidden, InvalidQuery, TierError, TooLarge
from triptych.tiers.rules.accounts import ANONYMOUS, KeyScope, Principal
from triptych.tiers.store.database import Scope, across, company
from triptych.wire import openai as shapes

if TYPE_CHECKING:
    from triptych.tiers.pipeline.runtime import Runtime
    from triptych.tiers.pipeline.service import LLMService

Need = Literal["anyone", "user", "company_admin", "admin"]
Handler = Callable[["RouteCall"], Awaitable[Any]]


class Body(BaseModel):
    """A request body: strict types, no unknown field."""

    model_config = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True)
class Route:
    """One route of the table."""

    method: str
    path: str
    need: Need
    handler: Handler | None
    summary: str
    body: type[Body] | None = None
    query: tuple[str, ...] = ()

    @property
    def scope(self) -> KeyScope:
        """What a key that is limited must be for."""
        for prefix, scope in _SCOPES.items():
            if self.path.startswith(prefix):
                return scope
        return "read" if self.method == "GET" else "manage"


_SCOPES: dict[str, KeyScope] = {
    "/v1/": "generate",
    "/api/query": "generate",
    "/api/structure": "generate",
    "/api/variations": "generate",
    "/api/feedback": "feedback",
    "/ofrep/": "flags",
}


@dataclass
class RouteCall:
    """What a handler works with."""

    runtime: Runtime
    service: LLMService
    principal: Principal
    path: dict[str, str]
    query: dict[str, str]
    body: Any
    headers: dict[str, str]

    @property
    def actor(self) -> str:
        """Name the caller for the audit."""
        return self.principal.user_id or self.principal.key_id

    def scope(self, company_id: str | None = None, *, reason: str = "") -> Scope:
        """Return whose rows this call may touch: all for an admin, else one company.

        Raises: Forbidden.
        """
        company_id = company_id or self.query.get("company_id")
        if self.principal.role == "admin":
            return company(company_id) if company_id else across(reason or "an admin looks at all")
        company_id = company_id or self.principal.default_company()
        if company_id is None or not self.principal.member_of(company_id):
            raise Forbidden("you are not a member of this company", code="not_a_member")
        return company(company_id)

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """Read a whole number from the query string.

        Raises: InvalidQuery.
        """
        text = self.query.get(name)
        if text is None:
            return default
        if not text.lstrip("-").isascii() or not text.lstrip("-").isdigit() or len(text) > 18:
            raise InvalidQuery(f"{name} must be a whole number", param=name)
        value = int(text)
        if not low <= value <= high:
            raise InvalidQuery(f"{name} must be between {low} and {high}", param=name)
        return value


class Routes:
    """Collect the routes of one subject."""

    def __init__(self) -> None:
        self.table: list[Route] = []

    def add(
        self,
        method: str,
        path: str,
        need: Need,
        *,
        body: type[Body] | None = None,
        query: Iterable[str] = (),
    ) -> Callable[[Handler], Handler]:
        """Declare a handler; its docstring's first line is its summary."""

        def declare(handler: Handler) -> Handler:
            summary = (handler.__doc__ or "").strip().splitlines()[0]
            route = Route(method, path, need, handler, summary, body, tuple(query))
            self.table.append(route)
            return handler

        return declare


def application(table: Iterable[Route], runtime: Runtime, service: LLMService) -> Starlette:
    """Build the application of a route table."""
    return Starlette(
        routes=[
            StarletteRoute(route.path, _endpoint(route, runtime, service), methods=[route.method])
            for route in table
            if route.handler is not None
        ],
        exception_handlers={404: _no_route, 405: _no_route},
    )


def _key(request: Request) -> str:
    """Return the key as `Bearer ...`, also where Azure's or Anthropic's clients put it."""
    if given := request.headers.get("authorization"):
        return given
    key = request.headers.get("x-api-key") or request.headers.get("api-key")
    return f"Bearer {key}" if key else ""


def _endpoint(route: Route, runtime: Runtime, service: LLMService) -> Any:
    async def endpoint(request: Request) -> Response:
        try:
            principal = ANONYMOUS
            if route.need != "anyone":
                host = request.client.host if request.client else ""
                principal = runtime.authenticate(_key(request), host)
                principal.require(route.need)
                principal.limited_to(route.scope)
                if route.method != "GET" or principal.role == "user":
                    # An open Console looks again and again; that must not use up what the same
                    # key's programs may ask.
                    await runtime.limiter.hit(principal, host)
                if route.scope == "generate":
                    await runtime.key_limits.admit(principal)
            body = await _read_body(request, route.body, runtime.config.max_body_bytes)
            assert route.handler is not None
            answer = await route.handler(
                RouteCall(
                    runtime,
                    service,
                    principal,
                    dict(request.path_params),
                    dict(request.query_params),
                    body,
                    dict(request.headers),
                )
            )
        except TierError as error:
            return error_response(error)
        return answer if isinstance(answer, Response) else json_response(answer)

    return endpoint


async def _read_body(request: Request, model: type[Body] | None, max_bytes: int) -> Body | None:
    if model is None:
        return None
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > max_bytes:
            raise TooLarge(f"the body is larger than {max_bytes} bytes")
    try:
        # read as what can be written again: no number is larger than JSON's readers agree on
        return model.model_validate_json(orjson.dumps(orjson.loads(raw or b"{}")))
    except orjson.JSONDecodeError as error:
        raise InvalidQuery(f"the body is not valid JSON: {error}", status=400) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise InvalidQuery(f"{where}: {first['msg']}"[:300], param=where[:64]) from error


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON."""
    sent = {"cache-control": "no-store", "x-content-type-options": "nosniff"} | (headers or {})
    return Response(orjson.dumps(body), status, sent, "application/json")


def error_response(error: TierError) -> Response:
    """Answer with an error in OpenAI's shape."""
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    return json_response(
        shapes.error(message, status=error.status, code=error.code, param=error.param),
        error.status,
        headers,
    )


async def _no_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    said = f"no route {request.method} {request.url.path[:200]}"
    return json_response(shapes.error(said, status=status), status)
