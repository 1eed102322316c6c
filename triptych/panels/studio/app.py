"""Put the Studio together: the run API, the supervisor and the page in one web process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import gradio as gr
from fastapi import FastAPI

from triptych.config import Config, environment
from triptych.errors import StorageError
from triptych.lm.runs.api import add_error_answers, router
from triptych.lm.runs.store import RunStore
from triptych.lm.runs.supervisor import RunSupervisor
from triptych.panels import look
from triptych.panels.studio.page import build_page


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
    app.include_router(router(runs, config.runs), prefix="/api")
    add_error_answers(app)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return gr.mount_gradio_app(app, build_page(runs, config), path="/", **look.options())


def supervise(runs: RunStore, config: Config) -> RunSupervisor | None:
    """Look after the runs from this process, unless another one does already."""
    try:
        return RunSupervisor(runs, config.runs).run_in_background()
    except StorageError:
        return None  # another process looks after the runs already
