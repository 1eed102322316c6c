"""Put the Studio together: the run API, the supervisor and the page in one web process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import gradio as gr
from fastapi import FastAPI

from triptych.config import Config, environment, load_config
from triptych.errors import StorageError
from triptych.lm.runs.api import add_error_answers, router
from triptych.lm.runs.store import RunStore
from triptych.lm.runs.supervisor import RunSupervisor
from triptych.panels import theme
from triptych.panels.serving import serve
from triptych.panels.studio import follow, learn
from triptych.panels.studio.page import build_page
from triptych.panels.studio.uploads import UploadGate
from triptych.panels.visitor import attach_sign_in, identify, is_shared


def launch() -> None:
    """Run the Studio as a Space: everybody signs in, and owns what they start."""
    host = environment.get("GRADIO_SERVER_NAME", "127.0.0.1")
    port = environment.get("GRADIO_SERVER_PORT") or environment.get("PORT") or "7860"
    config = load_config(None, [f"panels.host={host}", f"panels.port={port}"])
    serve(build_app(config), config, "Studio")


def build_app(config: Config, store: RunStore | None = None) -> FastAPI:
    """Make the Studio's application; while it runs, it also looks after queued runs."""
    runs = store or RunStore(environment.home() / "runs")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        supervisor = supervise(runs, config)
        yield
        if supervisor is not None:
            supervisor.close()

    app = FastAPI(title="Triptych Studio", lifespan=lifespan)
    app.add_middleware(UploadGate, limit_bytes=config.panels.upload_bytes)
    if is_shared():
        attach_sign_in(app)
    app.include_router(router(runs, config.runs, identify), prefix="/api")
    app.include_router(follow.routes(runs, config), prefix="/api")
    app.include_router(learn.routes(runs, config), prefix="/api")
    add_error_answers(app)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    page = build_page(runs, config)
    limits = {"max_file_size": config.panels.upload_bytes}
    return gr.mount_gradio_app(app, page, path="/", **theme.options(), **limits)


def supervise(runs: RunStore, config: Config) -> RunSupervisor | None:
    """Look after the runs from this process, unless another one does already."""
    try:
        return RunSupervisor(runs, config.runs).run_in_background()
    except StorageError:
        return None  # another process looks after the runs already
