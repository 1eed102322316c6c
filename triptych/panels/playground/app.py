"""Put the Playground together: the page over the models of this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import gradio as gr
from fastapi import FastAPI

from triptych.config import Config, environment
from triptych.lm.runs.store import RunStore
from triptych.panels import look
from triptych.panels.playground import drawing
from triptych.panels.playground.models import Resolve, Shelf
from triptych.panels.playground.page import build_page


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
