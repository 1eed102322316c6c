"""Put the Playground together: the page over the models of this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import gradio as gr
from fastapi import FastAPI

from triptych.config import Config, environment, load_config
from triptych.errors import ConfigError, UsageError
from triptych.hub.pull import pull
from triptych.lm.runs.store import RunStore
from triptych.panels import look
from triptych.panels.playground import drawing
from triptych.panels.playground.models import Resolve, Shelf
from triptych.panels.playground.page import build_page
from triptych.panels.serving import serve


def launch() -> None:
    """Run the Playground as a Space: the models its owner named, and no others."""
    named = (environment.get("MODELS") or "").replace(",", " ").split()
    if not named:
        raise ConfigError(
            "the variable MODELS names no model", hint="set it to owner/name owner/other@revision"
        )

    def resolve(reference: str) -> Path:
        # It is fetched with the owner's token, so a visitor must not choose what.
        if reference not in named:
            raise UsageError(f"{reference!r} is not one of this Space's models")
        return pull(reference)

    host = environment.get("GRADIO_SERVER_NAME", "127.0.0.1")
    port = environment.get("GRADIO_SERVER_PORT") or environment.get("PORT") or "7860"
    config = load_config(None, [f"panels.host={host}", f"panels.port={port}"])
    serve(build_app(config, resolve, named), config, "Playground")


def build_app(config: Config, resolve: Resolve, named: Sequence[str] = ()) -> FastAPI:
    """Make the Playground's application."""
    store = RunStore(environment.home() / "runs")
    shelf = Shelf(config, store, resolve)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        shelf.close()

    app = FastAPI(title="Triptych Playground", lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    options = look.options()
    options["css"] += drawing.CSS
    page = build_page(config, store, shelf, named)
    return gr.mount_gradio_app(app, page, path="/", **options)
