"""The Console as an application of its own, beside the gateway or as a Space."""

from __future__ import annotations

import gradio as gr
from fastapi import FastAPI

from triptych.lm.runs.store import RunStore
from triptych.panels import theme
from triptych.panels.console_gradio import drawing
from triptych.panels.console_gradio.page import build_page


def build_app(gateway: str, hub: str | None = None, runs: RunStore | None = None) -> FastAPI:
    """Serve the Console for a gateway, for the hub that holds its Spaces, and for runs at hand."""
    options = theme.options()
    options["css"] += drawing.CSS
    app: FastAPI = gr.mount_gradio_app(
        FastAPI(title="Triptych Console"),
        build_page(gateway, hub=hub, runs=runs),
        path="/",
        **options,
    )
    return app
