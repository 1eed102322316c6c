"""One web address for all panels: landing page, Studio, Playground, Console."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import Response

from triptych.config import Config, environment
from triptych.lm.runs.api import add_error_answers, router
from triptych.lm.runs.store import RunStore
from triptych.panels import theme
from triptych.panels.ask.answering import Answering
from triptych.panels.ask.history import History
from triptych.panels.ask.routes import routes as ask_routes
from triptych.panels.console.routes import routes as console_routes
from triptych.panels.landing.routes import routes as landing_routes
from triptych.panels.origin_check import OriginCheck
from triptych.panels.playground.context import Context
from triptych.panels.playground.models.model_list import Resolve
from triptych.panels.playground.models.models_api import attach_models_api
from triptych.panels.playground.page import build_page as playground_page
from triptych.panels.playground.style import CSS as PLAYGROUND_CSS
from triptych.panels.sign_in.identity import SignIn, SignInRequired
from triptych.panels.sign_in.routes import routes as sign_in_routes
from triptych.panels.studio import follow, learn
from triptych.panels.studio.app import supervise
from triptych.panels.studio.page import build_page as studio_page
from triptych.panels.studio.uploads import UploadGate
from triptych.panels.visitor import identify
from triptych.panels.web.navigation import ICON, navigation
from triptych.panels.web.site import Site


def build_app(config: Config, resolve: Resolve, gateway: str, hub: str) -> FastAPI:
    """Put every panel into one application; `gateway` and `hub` are addresses to talk to."""
    store = RunStore(environment.home() / "runs")
    context = Context(config, store, resolve, gateway=gateway)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        supervisor = supervise(store, config)
        yield
        await answering.close()
        if supervisor is not None:
            supervisor.close()
        context.close()

    app = FastAPI(title="Triptych", lifespan=lifespan)
    app.add_middleware(UploadGate, limit_bytes=config.panels.upload_bytes)
    app.include_router(router(store, config.runs, identify), prefix="/api")
    app.include_router(follow.routes(store, config, "/playground/"), prefix="/api")
    app.include_router(learn.routes(store, config, "/playground/"), prefix="/api")
    sign_in = SignIn(
        gateway, hub, config.panels.sign_in_client, environment.home() / "panels" / "cookie.key"
    )
    site = Site(sign_in, sign_in.key)
    app.router.routes.extend([*site.routes(), *sign_in_routes(site, sign_in)])
    history = History(environment.home() / "ask")
    answering = Answering(history)
    app.router.routes.extend([*landing_routes(site, hub, store), *console_routes(site, hub, store)])
    app.router.routes.extend(ask_routes(site, history, answering))
    if config.panels.sign_in == "all":
        app.add_middleware(SignInRequired, sign_in=sign_in)
    app.add_middleware(OriginCheck)
    add_error_answers(app)

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return Response(ICON, media_type="image/svg+xml")

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    attach_models_api(app, context)
    options = theme.options()
    options["css"] += PLAYGROUND_CSS
    pages = {
        "/studio": studio_page(store, config, navigation("Studio")),
        "/playground": playground_page(context, navigation("Playground")),
    }
    for path, page in pages.items():
        app = gr.mount_gradio_app(app, page, path=path, **options)
    return app
