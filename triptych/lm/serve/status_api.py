"""`/health`, `/info` and `/metrics`: whether a server lives, what it runs, what it has done."""

from __future__ import annotations

import dataclasses
import time

from fastapi import APIRouter
from fastapi.responses import Response

from triptych import __version__
from triptych.lm.serve.http import JSON
from triptych.lm.serve.service import ModelService


def routes(service: ModelService) -> APIRouter:
    """Build the routes."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> Response:
        first = next(iter(service.models.values()))
        loaded = service.engine_of(first.name) is not None
        failure = service.failures.get(first.name)
        return JSON(
            {
                "status": "ok" if loaded else "failed" if failure else "loading",
                **({"error": failure} if failure and not loaded else {}),
                "model": first.name,
                "revision": first.revision,
                "models": {model.name: model.revision for model in service.models.values()},
                "uptime_s": round(time.time() - service.started_at, 3),
            },
            200 if loaded else 503,
        )

    @router.get("/info")
    async def info() -> Response:
        models = []
        for model in service.models.values():
            engine = service.engine_of(model.name)
            models.append(
                {
                    "model": model.name,
                    "revision": model.revision,
                    "adapters": list(model.adapters),
                    "loaded": engine is not None,
                    **({} if engine is None else dataclasses.asdict(engine.info)),
                }
            )
        defaults = {
            field.name: getattr(service.defaults, field.name)
            for field in dataclasses.fields(service.defaults)
        }
        return JSON({"version": __version__, "models": models, "defaults": defaults})

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.render(), media_type="text/plain; version=0.0.4")

    return router
