"""Put the Playground together: the page, and its models for programs, in one application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import gradio as gr
from fastapi import FastAPI

from triptych.config import Config, environment, load_config
from triptych.errors import ConfigError
from triptych.hub.pull import pull
from triptych.lm.runs.store import RunStore
from triptych.panels import theme
from triptych.panels.playground.context import Context
from triptych.panels.playground.models.model_list import Resolve
from triptych.panels.playground.models.models_api import attach_models_api
from triptych.panels.playground.page import build_page
from triptych.panels.playground.style import CSS
from triptych.panels.serving import serve


def launch() -> None:
    """Run the Playground as a Space: the models its owner named, fetched with its owner's token."""
    named = (environment.get("MODELS") or "").replace(",", " ").split()
    if not named:
        raise ConfigError(
            "the variable MODELS names no model", hint="set it to owner/name owner/other@revision"
        )
    host = environment.get("GRADIO_SERVER_NAME", "127.0.0.1")
    port = environment.get("GRADIO_SERVER_PORT") or environment.get("PORT") or "7860"
    config = load_config(None, [f"panels.host={host}", f"panels.port={port}"])
    serve(build_app(config, pull, named), config, "Playground")


def build_app(
    config: Config, resolve: Resolve, named: Sequence[str] = (), gateway: str = ""
) -> FastAPI:
    """Make the Playground's application over the runs of this home and the models named."""
    context = Context(config, RunStore(environment.home() / "runs"), resolve, named, gateway)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        fetching = asyncio.ensure_future(context.loaded_models.fetch_named())
        yield
        fetching.cancel()
        context.close()

    app = FastAPI(title="Triptych Playground", lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    attach_models_api(app, context)
    options = theme.options()
    options["css"] += CSS
    return gr.mount_gradio_app(app, build_page(context), path="/", **options)
