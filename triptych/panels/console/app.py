"""The Console as an application of its own, beside the gateway or far from it."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import RedirectResponse
from starlette.routing import Route

from triptych.config import environment
from triptych.lm.runs.store import RunStore
from triptych.panels.console.routes import routes
from triptych.panels.origin_check import OriginCheck
from triptych.panels.sign_in.identity import SignIn
from triptych.panels.sign_in.routes import routes as sign_in_routes
from triptych.panels.web.site import Site


def build_app(gateway: str, hub: str | None = None, runs: RunStore | None = None) -> FastAPI:
    """Serve the Console for a gateway, for the hub that holds its Spaces, and for runs at hand."""
    key_file = environment.home() / "panels" / "cookie.key"
    sign_in = SignIn(gateway, hub or "", "", key_file)
    site = Site(sign_in, sign_in.key)
    app = FastAPI(title="Triptych Console", openapi_url=None)
    app.add_middleware(OriginCheck)
    app.router.routes.extend([*site.routes(), *sign_in_routes(site, sign_in)])
    app.router.routes.extend(routes(site, hub, runs))
    app.router.routes.append(Route("/", lambda _: RedirectResponse("/console/"), methods=["GET"]))
    return app
