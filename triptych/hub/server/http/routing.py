"""Routes that say who may call them, and a call that has been let in.

A route cannot be declared without an `Access`; the same declaration is enforced here, once, for
every room, and read by the tests that try every route with every kind of token. Two macros
stand for the three kinds of repository: `{api}` is `/api/models/NAMESPACE/NAME` and its
siblings, `{repo}` is `/NAMESPACE/NAME`, `/datasets/NAMESPACE/NAME`, `/spaces/NAMESPACE/NAME`.
Revisions arrive percent-encoded (`refs%2Fpr%2F1`), so matching works on the raw path.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar
from urllib.parse import unquote

import anyio.to_thread
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from triptych.errors import AccessDenied, HubRefused, RepositoryNotFound
from triptych.hub.server import tickets
from triptych.hub.server.http import failures
from triptych.hub.server.names import RESERVED
from triptych.hub.server.repositories import catalog
from triptych.hub.server.repositories.catalog import KINDS, Repository
from triptych.hub.server.storage.hub import Hub
from triptych.hub.server.storage.identity.access import Level, level
from triptych.hub.server.storage.identity.sessions import session_identity
from triptych.hub.server.storage.identity.tokens import Identity, authenticate

_T = TypeVar("_T")
JSON_LIMIT_BYTES = 4 * 2**20


class Access(Enum):
    """Say who may call a route."""

    ANONYMOUS = "anybody; credentials, if any, are the route's own business"
    PUBLIC = "anybody"
    SIGNED_IN = "anybody with a valid token"
    SEE = "who sees the repository"
    READ = "who reads the repository's files"
    WRITE = "who writes to the repository"
    MANAGE = "who manages the repository"
    SITE_ADMIN = "the hub's administrators"
    TICKET = "the bearer of a signed address"


_LEVELS = {
    Access.SEE: Level.SEE,
    Access.READ: Level.READ,
    Access.WRITE: Level.WRITE,
    Access.MANAGE: Level.MANAGE,
}


@dataclass(frozen=True)
class Declared:
    """Describe one route as it was declared."""

    method: str
    path: str
    access: Access
    handler: Handler
    kind: str | None = None
    page: bool = False
    cookies: bool = False
    git: bool = False
    purposes: frozenset[str] = field(default_factory=frozenset)


class Call:
    """Carry one request that has been let in."""

    def __init__(self, request: Request, hub: Hub, declared: Declared) -> None:
        self.request = request
        self.hub = hub
        self.declared = declared
        self.identity: Identity | None = None
        self.level = Level.NONE
        self.ticket: tickets.Ticket | None = None
        self._repository: Repository | None = None
        self.params = {name: unquote(value) for name, value in request.path_params.items()}

    @property
    def repository(self) -> Repository:
        """Return the repository of this route; the caller may see it."""
        assert self._repository is not None, "this route has no repository"
        return self._repository

    @property
    def who(self) -> Identity:
        """Return who asks; the route demands a token."""
        if self.identity is None:
            raise AccessDenied("Invalid username or password.")
        return self.identity

    @property
    def base_url(self) -> str:
        """Return the address under which this client reaches the hub, without a final slash."""
        configured = self.hub.config.public_url
        return configured.rstrip("/") or str(self.request.base_url).rstrip("/")

    def query(self, name: str, default: str = "") -> str:
        """Return a parameter of the query."""
        return str(self.request.query_params.get(name, default))

    def flag(self, name: str) -> bool:
        """Return whether a parameter of the query says yes."""
        return self.query(name).lower() in ("1", "true", "yes", "on")

    async def body(self, limit_bytes: int = JSON_LIMIT_BYTES) -> bytes:
        """Read the whole body, refusing one that is too large before it fills the memory."""
        chunks = bytearray()
        async for chunk in self.request.stream():
            chunks += chunk
            if len(chunks) > limit_bytes:
                raise HubRefused(413, f"The request is larger than {limit_bytes} bytes")
        return bytes(chunks)

    async def json(self, limit_bytes: int = JSON_LIMIT_BYTES) -> dict[str, Any]:
        """Read the body as a JSON object; an empty body is an empty object."""
        raw = await self.body(limit_bytes)
        try:
            value = json.loads(raw) if raw else {}
        except (ValueError, RecursionError) as error:
            raise HubRefused(400, "The body is not valid JSON") from error
        if not isinstance(value, dict):
            raise HubRefused(400, "The body is not a JSON object")
        return value

    def require(self, needed: Level) -> None:
        """Go on only with at least this level on the repository."""
        if self.level >= needed:
            return
        if self.level < Level.SEE:
            raise RepositoryNotFound("Repository not found")
        if needed == Level.READ:
            raise HubRefused(
                403, f"Access to {self.repository.repo_id} is restricted", code="GatedRepo"
            )
        if self.identity is None:
            raise AccessDenied("Invalid username or password.")
        raise AccessDenied(
            f"You are not allowed to do this with {self.repository.repo_id}; "
            f"your token {self.identity.token_name!r} has role {self.identity.scope!r}"
        )


Handler = Callable[[Call], Awaitable[Response]]


class Router:
    """Collect the routes of one room."""

    def __init__(self, *, page: bool = False, cookies: bool = False, git: bool = False) -> None:
        self.declared: list[Declared] = []
        self._page = page
        self._cookies = cookies or page
        self._git = git

    def route(
        self,
        method: str,
        path: str,
        access: Access,
        *,
        kinds: Iterable[str] = KINDS,
        purposes: Iterable[str] = (),
    ) -> Callable[[Handler], Handler]:
        """Declare a handler for a method and a path."""
        assert access is not Access.TICKET or purposes, "a ticket needs a purpose"

        def declare(handler: Handler) -> Handler:
            for kind, concrete in _expand(path, kinds):
                self.declared.append(
                    Declared(
                        method, concrete, access, handler, kind,
                        self._page, self._cookies, self._git, frozenset(purposes),
                    )
                )  # fmt: skip
            return handler

        return declare

    def get(self, path: str, access: Access, **more: Any) -> Callable[[Handler], Handler]:
        """Declare a reading route; HEAD comes with it."""
        return self.route("GET", path, access, **more)

    def post(self, path: str, access: Access, **more: Any) -> Callable[[Handler], Handler]:
        """Declare a route that acts."""
        return self.route("POST", path, access, **more)

    def put(self, path: str, access: Access, **more: Any) -> Callable[[Handler], Handler]:
        """Declare a route that replaces."""
        return self.route("PUT", path, access, **more)

    def delete(self, path: str, access: Access, **more: Any) -> Callable[[Handler], Handler]:
        """Declare a route that deletes."""
        return self.route("DELETE", path, access, **more)


class _Owner(StringConvertor):
    """Match the name of an account: anything but the first words of the hub's own addresses."""

    regex = f"(?!(?:{'|'.join(map(re.escape, sorted(RESERVED)))})(?:/|$))[^/]+"


register_url_convertor("owner", _Owner())


async def in_thread(function: Callable[..., _T], *arguments: Any) -> _T:
    """Run blocking work without holding up other requests."""
    return await anyio.to_thread.run_sync(lambda: function(*arguments))


def as_routes(declared: Iterable[Declared], hub: Hub) -> list[Route]:
    """Make the routes that enforce what was declared."""
    return [
        Route(one.path, _endpoint(one, hub), methods=[one.method], name=one.handler.__name__)
        for one in declared
    ]


class RawPath:
    """Let routes match the path as it was sent, so that an encoded slash stays one segment."""

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        self.app = app
        self.hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its raw path."""
        if scope["type"] in ("http", "websocket") and scope.get("raw_path"):
            scope = {**scope, "path": scope["raw_path"].split(b"?")[0].decode("latin-1")}
        await self.app(scope, receive, send)


def _expand(path: str, kinds: Iterable[str]) -> list[tuple[str | None, str]]:
    if "{api}" in path:
        return [(k, path.replace("{api}", f"/api/{k}s/{{namespace}}/{{name}}")) for k in kinds]
    if "{repo}" in path:
        prefix = {"model": "", "dataset": "/datasets", "space": "/spaces"}
        named = {k: f"{prefix[k]}/{{namespace:owner}}/{{name}}" for k in kinds}
        return [(k, path.replace("{repo}", named[k])) for k in kinds]
    return [(None, path)]


def _endpoint(declared: Declared, hub: Hub) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        call = Call(request, hub, declared)
        try:
            await in_thread(_let_in, call)
            return await declared.handler(call)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:  # boundary: request handler
            if declared.page:
                return failures.page(error, anonymous=call.identity is None)
            return failures.answer(error, anonymous=call.identity is None, git=declared.git)

    return endpoint


def _let_in(call: Call) -> None:
    """Establish who asks and whether the route's declaration lets them in."""
    declared, hub = call.declared, call.hub
    if declared.access is Access.ANONYMOUS:
        return
    if declared.access is Access.TICKET:
        shown = call.query("ticket") or _bearer(call.request) or ""
        call.ticket = tickets.check(hub.vault, shown, declared.purposes)
        return
    call.identity = _identity(call)
    if declared.kind is not None and "namespace" in call.params:
        _find_repository(call, declared.kind)
        call.require(_LEVELS.get(declared.access, Level.SEE))
    elif declared.access is not Access.PUBLIC and call.identity is None:
        raise AccessDenied("Invalid username or password.")
    if declared.access is Access.SITE_ADMIN and not (
        call.who.is_admin and call.who.scope == "write"
    ):
        raise AccessDenied("Only the hub's administrators may do this")


def _find_repository(call: Call, kind: str) -> None:
    database = call.hub.database
    namespace, name = call.params["namespace"], call.params["name"].removesuffix(".git")
    repository = catalog.find(database, kind, namespace, name)
    if repository is None:
        repository = catalog.find_moved(database, kind, namespace, name)
    if repository is None:
        raise RepositoryNotFound("Repository not found")
    call._repository = repository
    call.level = level(call.identity, repository)
    if call.level < Level.SEE:
        raise RepositoryNotFound("Repository not found")


def _identity(call: Call) -> Identity | None:
    token = _bearer(call.request)
    if token:
        return authenticate(call.hub.database, token)
    if call.declared.cookies:
        return session_identity(call.hub.database, call.request.cookies)
    return None


def _bearer(request: Request) -> str | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(value).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "malformed"
        return password or user
    return None
