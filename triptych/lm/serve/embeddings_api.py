"""`/v1/embeddings`: texts as vectors of the model's own, the same from every engine.

The vector is the average of the last hidden states, of length 1. A model that was trained to write
makes a usable one and no more: for retrieval, serve a model that was trained for it.
"""

from __future__ import annotations

import asyncio
import base64
import math
import struct

from fastapi import APIRouter
from fastapi.responses import Response

from triptych.errors import UsageError
from triptych.lm.generate.engine import Engine
from triptych.lm.serve.http import JSON
from triptych.lm.serve.openai_api import prompts_of
from triptych.lm.serve.service import ModelService
from triptych.wire import openai
from triptych.wire.requests import EmbeddingsRequest


def routes(service: ModelService) -> APIRouter:
    """Build the route."""
    router = APIRouter()

    @router.post("/v1/embeddings")
    async def embeddings(body: EmbeddingsRequest) -> Response:
        chosen = service.choose(body.model)
        if chosen.adapter:
            raise UsageError(
                f"{chosen.adapter} is an adapter, and embeddings are made by its base alone",
                hint="name the base as the model",
                code="unsupported",
            )
        with await service.lease(chosen.model) as engine:
            made = await asyncio.to_thread(_embed_all, engine, body)
        return JSON({**made, "model": chosen.model.name})

    return router


def _embed_all(engine: Engine, body: EmbeddingsRequest) -> openai.Shape:
    entries, tokens = [], 0
    for index, text in enumerate(prompts_of(body.input)):
        ids = engine.encode(text) if isinstance(text, str) else text
        vector = engine.embed(ids)
        tokens += len(ids)
        if body.dimensions is not None and body.dimensions < len(vector):
            vector = vector[: body.dimensions]
            length = math.hypot(*vector) or 1.0
            vector = [value / length for value in vector]
        shown: list[float] | str = vector
        if body.encoding_format == "base64":
            shown = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        entries.append({"object": "embedding", "index": index, "embedding": shown})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": entries, "usage": usage}
