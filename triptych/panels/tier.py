"""The program of a tier Space: one model, asked by people and by the gateway.

One process answers plain HTTP (`/api/generate`, `/v1/...`, `/health`) and Gradio's endpoint
`generate`; both run the same function, so both give the same text. The model is named by the
variables MODEL_ID (repository or folder) and MODEL_VERSION (commit). All three tiers are this one
template: what makes a tier is its model and the context it is sent. Left out: the page
(`tier_page`), which is built when it is first opened.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import FastAPI

from triptych.config import environment, load_config
from triptych.errors import ConfigError
from triptych.hub.pull import is_repository, pull
from triptych.lm.serve.app import create_app, run_app
from triptych.lm.serve.models import build_service, describe_model
from triptych.lm.serve.service import ModelService
from triptych.panels.lazy_page import LazyPage
from triptych.processes.ports import bind

PORT = 7860


def launch() -> None:
    """Run the Space: read its variables, load its model, answer until told to stop."""
    service = service_from_variables()
    # A hub sends requests here as soon as the port answers, so nothing listens before the model
    # is loaded: a broken one ends the process, and the version before it serves on.
    with asyncio.run(service.lease(next(iter(service.models.values())))):
        app = build_app(service, environment.secret("TRIPTYCH_SERVE_TOKEN"))
    host = environment.get("GRADIO_SERVER_NAME", "127.0.0.1") or ""
    port = int(environment.get("GRADIO_SERVER_PORT") or environment.get("PORT") or PORT)
    run_app(app, bind(host, port), drain_s=10.0)


def service_from_variables() -> ModelService:
    """Build the service of the model that MODEL_ID and MODEL_VERSION name.

    Raises: ConfigError where MODEL_ID is not set.
    """
    model_id = environment.get("MODEL_ID")
    if not model_id:
        raise ConfigError(
            "the variable MODEL_ID is not set",
            hint="set it to a model repository such as acme/base, and MODEL_VERSION to its commit",
        )
    version = environment.get("MODEL_VERSION") or ""

    def resolve(reference: str) -> Path:
        return find_model(reference, version if reference == model_id else "")

    model = describe_model(model_id, resolve, revision=version)
    return build_service([model], load_config())


def find_model(model_id: str, version: str) -> Path:
    """Return the folder of the model: a folder as it is, a repository from the hub or its cache."""
    folder = Path(model_id).expanduser()
    if folder.is_dir() or not is_repository(model_id):
        return folder
    return pull(f"{model_id}@{version}" if version else model_id)


def build_app(service: ModelService, token: environment.Secret | None = None) -> FastAPI:
    """Put the page behind the model's HTTP API."""

    def draw() -> FastAPI:
        from triptych.panels.tier_page import page_app

        return page_app(service)

    app = create_app(service, token=token)
    model = next(iter(service.models.values()))
    LazyPage(draw, f"{model.name} answers POST /v1/chat/completions and /api/generate.").join(app)
    return app
