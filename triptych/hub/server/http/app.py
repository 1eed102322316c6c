"""The embedded hub as one ASGI application: every router, one lifespan.

`routers` is the list the tests read to try every route with every kind of token.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Lifespan

from triptych.config.hub import HubConfig
from triptych.errors import EntryNotFound, RepositoryNotFound
from triptych.hub.server.http import commits as upload_routes
from triptych.hub.server.http import declined as declined_routes
from triptych.hub.server.http import failures, lfs, resolve
from triptych.hub.server.http import git as git_routes
from triptych.hub.server.http import git_transport as transport
from triptych.hub.server.http import identity as identity_routes
from triptych.hub.server.http import jobs as jobs_routes
from triptych.hub.server.http import oauth as oauth_routes
from triptych.hub.server.http import repositories as repository_routes
from triptych.hub.server.http import spaces as spaces_routes
from triptych.hub.server.http import xet as xet_routes
from triptych.hub.server.http.call import Declared, Services
from triptych.hub.server.http.middleware import ExactDate, OwnNames, RawPath
from triptych.hub.server.http.pages import account as account_pages
from triptych.hub.server.http.pages import browse
from triptych.hub.server.http.routing import Router, as_routes
from triptych.hub.server.jobs.runner import Jobs
from triptych.hub.server.repositories.heads import repair
from triptych.hub.server.spaces.ports import ByHost
from triptych.hub.server.spaces.runner import Spaces
from triptych.hub.server.storage.hub import Hub
from triptych.hub.server.threads import in_thread, limit_request_threads


def routers() -> list[Router]:
    """Return every router, in the order in which they match."""
    return [
        identity_routes.routes,
        declined_routes.routes,
        repository_routes.routes,
        git_routes.routes,
        upload_routes.routes,
        lfs.routes,
        transport.routes,
        resolve.routes,
        xet_routes.routes,
        spaces_routes.routes,
        jobs_routes.routes,
        oauth_routes.routes,
        oauth_routes.pages,
        account_pages.routes,
        browse.routes,
    ]


def declared() -> list[Declared]:
    """Return every route with its rule."""
    return [one for router in routers() for one in router.declared]


def create_app(settings: HubConfig) -> RawPath:
    """Build the hub over its folder; the folder is taken when the application starts."""
    hub = Hub(settings)
    services = Services(hub, Spaces(hub), Jobs(hub))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        limit_request_threads()
        async with AsyncExitStack() as stack:
            stack.callback(hub.close)
            await in_thread(hub.open_for_serving)
            await in_thread(repair, hub)
            await services.spaces.open()
            stack.push_async_callback(services.spaces.close)
            await services.jobs.open()
            stack.push_async_callback(services.jobs.close)
            stack.push_async_callback(hub.events.drain)
            yield

    app = routed(services, lifespan)
    return RawPath(ExactDate(OwnNames(ByHost(app, services.spaces.proxies), settings)), services)


def routed(services: Services, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    """Return one application with every declared route; nothing else is served."""
    app = Starlette(
        routes=as_routes(declared(), services),
        lifespan=lifespan,
        exception_handlers={HTTPException: _unrouted},
    )
    app.router.redirect_slashes = False
    return app


async def _unrouted(request: Request, error: Exception) -> Response:
    """Answer what no route takes: an unknown repository to clients that look for one."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return JSONResponse({"error": "Method not allowed"}, status_code=405)
    path = request.url.path
    if path.startswith(("/api/models", "/api/datasets", "/api/spaces")) or "/resolve/" in path:
        return failures.answer(RepositoryNotFound("Repository not found"))
    return failures.answer(EntryNotFound("Nothing is here"))
