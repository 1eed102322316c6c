"""A request that was let in, and the access that its route declared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from triptych.errors import AccessDenied, HubRefused, RepositoryNotFound
from triptych.hub.server import limits, tickets
from triptych.hub.server.jobs.runner import Jobs
from triptych.hub.server.repository import Repository
from triptych.hub.server.spaces.runner import Spaces
from triptych.hub.server.storage.hub import Hub
from triptych.hub.server.storage.identity.access import Level
from triptych.hub.server.storage.identity.tokens import Identity

JSON_LIMIT_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Services:
    """Hold what every route may use: the hub's storage, its Spaces and its Jobs."""

    hub: Hub
    spaces: Spaces
    jobs: Jobs


class Access(Enum):
    """Define who may call a route."""

    ANONYMOUS = "every caller; the route checks credentials itself, if there are any"
    PUBLIC = "every caller"
    SIGNED_IN = "every caller with a valid token"
    SEE = "who sees the repository"
    READ = "who reads the repository's files"
    WRITE = "who writes to the repository"
    MANAGE = "who manages the repository"
    SITE_ADMIN = "the hub's administrators"
    TICKET = "the bearer of a signed address"


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

    def __init__(self, request: Request, services: Services, declared: Declared) -> None:
        self.request = request
        self.services = services
        self.declared = declared
        self.identity: Identity | None = None
        self.level = Level.NONE
        self.ticket: tickets.Ticket | None = None
        self._repository: Repository | None = None
        self.params = {name: unquote(value) for name, value in request.path_params.items()}

    @property
    def hub(self) -> Hub:
        """Return the hub's storage and configuration."""
        return self.services.hub

    @property
    def repository(self) -> Repository:
        """Return the repository of this route; the caller may see it."""
        assert self._repository is not None, "this route has no repository"
        return self._repository

    @property
    def who(self) -> Identity:
        """Return the caller's identity; the route requires a token."""
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
            value = limits.read_json(raw) if raw else {}
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
