"""Routes that say who may call them, and a call that has been let in.

A route cannot be declared without an `Access`; the same declaration is enforced here, once, for
every router, and read by the tests that try every route with every kind of token. Two macros
stand for the three kinds of repository: `{api}` is `/api/models/NAMESPACE/NAME` and its
siblings, `{repo}` is `/NAMESPACE/NAME`, `/datasets/NAMESPACE/NAME`, `/spaces/NAMESPACE/NAME`.
Revisions arrive percent-encoded (`refs%2Fpr%2F1`), so matching works on the raw path.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from triptych.errors import AccessDenied, HubRefused, RepositoryNotFound
from triptych.hub.server import tickets
from triptych.hub.server.http import failures
from triptych.hub.server.http.call import Access, Call, Declared, Handler, Services
from triptych.hub.server.http.pages.render import error_page
from triptych.hub.server.names import RESERVED
from triptych.hub.server.repositories import catalog
from triptych.hub.server.repository import KINDS
from triptych.hub.server.storage.identity.access import Level, level
from triptych.hub.server.storage.identity.sessions import session_identity
from triptych.hub.server.storage.identity.tokens import Identity, authenticate
from triptych.hub.server.threads import in_thread

_LEVELS = {
    Access.SEE: Level.SEE,
    Access.READ: Level.READ,
    Access.WRITE: Level.WRITE,
    Access.MANAGE: Level.MANAGE,
}


class Router:
    """Collect the routes of one protocol."""

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


def as_routes(declared: Iterable[Declared], services: Services) -> list[Route]:
    """Make the routes that enforce what was declared."""
    return [
        Route(one.path, _endpoint(one, services), methods=[one.method], name=one.handler.__name__)
        for one in declared
    ]


def _expand(path: str, kinds: Iterable[str]) -> list[tuple[str | None, str]]:
    if "{api}" in path:
        return [(k, path.replace("{api}", f"/api/{k}s/{{namespace}}/{{name}}")) for k in kinds]
    if "{repo}" in path:
        prefix = {"model": "", "dataset": "/datasets", "space": "/spaces"}
        named = {k: f"{prefix[k]}/{{namespace:owner}}/{{name}}" for k in kinds}
        return [(k, path.replace("{repo}", named[k])) for k in kinds]
    return [(None, path)]


def _endpoint(declared: Declared, services: Services) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        call = Call(request, services, declared)
        try:
            await in_thread(_let_in, call)
            return await declared.handler(call)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:  # boundary: request handler
            if declared.page:
                status, _, message = failures.report(error, anonymous=call.identity is None)
                return error_page(status, message)
            return failures.answer(error, anonymous=call.identity is None, git=declared.git)

    return endpoint


def _let_in(call: Call) -> None:
    """Set the caller's identity, and refuse a caller whom the route's access does not allow."""
    declared, hub = call.declared, call.hub
    if declared.access is Access.ANONYMOUS:
        return
    if declared.access is Access.TICKET:
        shown = call.query("ticket") or _bearer(call.request) or ""
        call.ticket = tickets.check(hub.vault, shown, declared.purposes)
        return
    if declared.cookies and declared.method not in ("GET", "HEAD"):
        _refuse_foreign_page(call)
    call.identity = _identity(call)
    if declared.kind is not None and "namespace" in call.params:
        _find_repository(call, declared.kind)
        call.require(_LEVELS.get(declared.access, Level.SEE))
    elif declared.access is not Access.PUBLIC and call.identity is None:
        raise AccessDenied("Invalid username or password.")
    if declared.access is Access.SITE_ADMIN and not call.who.administers:
        raise AccessDenied("Only the hub's administrators may do this")


def _refuse_foreign_page(call: Call) -> None:
    """Refuse what another site's page sends: it would act, or sign in, with this browser."""
    headers = call.request.headers
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in ("same-origin", "none") or (site is None and origin is None):
        return
    own = {urlsplit(call.base_url).netloc, headers.get("host", "")}
    if site is not None or urlsplit(origin or "").netloc not in own:
        raise HubRefused(403, "This request comes from a page of another site")


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
