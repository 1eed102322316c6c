"""The models of the page for programs: OpenAI's API at `/models/v1`, which copied code asks.

The same models, limits and visitors as on the page. Left out: the routes themselves (`lm/serve`).
"""

from __future__ import annotations

from collections import Counter

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from triptych.errors import TriptychError
from triptych.lm.serve import http, openai_api
from triptych.panels.playground.context import Context
from triptych.panels.playground.visitor import visitor_of
from triptych.wire import openai

PATH = "/models"
#: A prompt's characters as bytes of JSON at most, and what stands around it.
BYTES_PER_CHAR, AROUND_BYTES = 6, 16_384


def attach_models_api(app: FastAPI, context: Context) -> None:
    """Put OpenAI's API over the page's models onto its application."""
    loaded_models = context.loaded_models
    api = FastAPI(title="Models of the Playground", docs_url=None, redoc_url=None)

    @api.get("/v1/models")
    def models() -> Response:
        loaded_models.list_offered()
        return http.JSON(openai.model_list(openai_api.model_cards(loaded_models)))

    @api.get("/v1/models/{name:path}")
    def model(name: str) -> Response:
        found = loaded_models.choose(name).model
        card = openai.model_card(found.name, created=found.created, revision=found.revision)
        return http.JSON(card)

    api.include_router(openai_api.routes(loaded_models))
    api.add_exception_handler(TriptychError, http.on_triptych_error)
    api.add_exception_handler(RequestValidationError, http.on_invalid_request)
    api.add_exception_handler(HTTPException, http.on_http_error)
    limits = context.config.panels
    api.add_middleware(
        http.BodyLimit, max_bytes=limits.prompt_chars * BYTES_PER_CHAR + AROUND_BYTES
    )
    api.add_middleware(PerVisitor, most=limits.generations_per_visitor)
    app.mount(PATH, api)


class PerVisitor:
    """Refuse a visitor who has as many answers written as one may have."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self._most = most
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 429."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        visitor = visitor_of(Request(scope)).name
        if self._running[visitor] >= self._most:
            words = f"{self._most} answers at the same time are allowed; one has to end first"
            body = openai.error(words, status=429, code="too_many_answers")
            await http.JSON(body, 429, {"retry-after": "2"})(scope, receive, send)
            return
        self._running[visitor] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._running[visitor] -= 1
            if not self._running[visitor]:
                del self._running[visitor]
