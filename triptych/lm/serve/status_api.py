"""`/health`, `/info`, `/metrics`, `/tokenize`: whether a server lives, what it runs and reads."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence

from fastapi import APIRouter
from fastapi.responses import Response

from triptych import __version__
from triptych.errors import UsageError
from triptych.lm.generate.engine import Message
from triptych.lm.serve.http import JSON
from triptych.lm.serve.service import ModelService
from triptych.wire import openai
from triptych.wire.requests import TokenizeRequest


def routes(service: ModelService) -> APIRouter:
    """Build the routes."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> Response:
        return _health(service)

    @router.get("/info")
    async def info() -> Response:
        return _info(service)

    @router.post("/tokenize")
    async def tokenize(body: TokenizeRequest) -> Response:
        chosen = service.choose(body.model)
        if (body.prompt is None) == (body.messages is None):
            raise UsageError("give either prompt or messages", code="unsupported")
        with await service.lease(chosen.model) as engine:
            prompt: str | Sequence[Message] | None = body.prompt
            if prompt is None:
                try:
                    prompt = [
                        {"role": turn.role, "content": openai.content_text(turn.content)}
                        for turn in body.messages or ()
                    ]
                except ValueError as fault:
                    raise UsageError(f"messages: {fault}", code="unsupported") from fault
            ids = await asyncio.to_thread(engine.encode, prompt)
            return JSON(
                {"tokens": ids, "count": len(ids), "max_model_len": engine.info.context_length}
            )

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.render(), media_type="text/plain; version=0.0.4")

    return router


def _health(service: ModelService) -> Response:
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


def _info(service: ModelService) -> Response:
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
