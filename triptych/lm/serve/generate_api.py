"""`POST /api/generate`: the originals' way to ask a Space, in both of their shapes.

The same `generate_once` answers the page's endpoint, so both give the same text.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from triptych.config.generate import Sampling
from triptych.errors import GenerationError, UsageError
from triptych.lm.generate.engine import Chunk, GenerateRequest, Message
from triptych.lm.serve.context import facts_of, render, turns_of
from triptych.lm.serve.http import JSON, client_gone
from triptych.lm.serve.service import Answer, Chosen, ModelService
from triptych.wire import openai
from triptych.wire.requests import GenerateAnswer, GenerateBody, GenerateParams


def routes(service: ModelService) -> APIRouter:
    """Build the route."""
    router = APIRouter()

    @router.post("/api/generate", response_model=GenerateAnswer)
    async def generate(body: GenerateBody, request: Request) -> Response:
        answering = asyncio.ensure_future(generate_once(service, body))
        leaving = asyncio.ensure_future(client_gone(request))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                return Response(status_code=499)
            return JSON(answering.result().model_dump())
        finally:
            answering.cancel()
            leaving.cancel()

    return router


async def generate_once(service: ModelService, body: GenerateBody) -> GenerateAnswer:
    """Answer one prompt with everything its context says in it.

    Raises: GenerationError as the engines do.
    """
    generation = await begin(service, body)
    async for _ in generation.pieces():
        pass
    return generation.answer()


@dataclass
class Generation:
    """An answer to /api/generate while it is written."""

    chosen: Chosen
    running: Answer
    context_applied: bool
    abstraction_applied: bool
    history_dropped: int
    started: float
    texts: list[str] = field(default_factory=list)
    last: Chunk | None = None

    async def pieces(self) -> AsyncGenerator[str, None]:
        """Yield the text as it comes; leaving early cancels the rest."""
        try:
            async for batch in self.running.batches():
                piece = "".join(chunk.text for _, chunk in batch)
                self.texts.append(piece)
                self.last = batch[-1][1] if batch else self.last
                if piece:
                    yield piece
        finally:
            self.running.close()

    def answer(self) -> GenerateAnswer:
        """Describe the finished answer."""
        last = self.last
        if last is None or last.finish_reason is None:
            raise GenerationError("the engine ended an answer without a reason")
        return GenerateAnswer(
            generated_text="".join(self.texts),
            model_version=self.chosen.model.revision,
            generation_time=time.perf_counter() - self.started,
            model=self.chosen.model.name,
            finish_reason=last.finish_reason,
            usage=openai.usage(last.input_tokens, last.output_tokens, last.cached_tokens),
            context_applied=self.context_applied,
            abstraction_applied=self.abstraction_applied,
            history_dropped=self.history_dropped,
        )


async def begin(service: ModelService, body: GenerateBody) -> Generation:
    """Render the prompt with its context and start the answer.

    Raises: GenerationError as the engines do.
    """
    started = time.perf_counter()
    chosen = service.choose(None)
    sampling = _sampling(service.defaults, body.params)
    company = facts_of(body.params.context)
    abstraction = facts_of(body.params.abstraction_context)
    with await service.lease(chosen.model) as engine:
        rendered = await asyncio.to_thread(
            render,
            engine,
            body.prompt,
            company=company,
            abstraction=abstraction,
            history=_turns(body.params),
            new_tokens=sampling.max_new_tokens,
        )
    if isinstance(rendered.prompt, str):
        given: dict[str, Any] = {"prompt": rendered.prompt}
    else:
        given = {"messages": rendered.prompt}
    request = GenerateRequest(**given, sampling=sampling, adapter=chosen.adapter)
    running = await service.answer(chosen, [request])
    return Generation(
        chosen, running, bool(company), bool(abstraction), rendered.history_dropped, started
    )


def _turns(params: GenerateParams) -> list[Message]:
    history = params.conversation_history
    if history is None or isinstance(history, str):
        return turns_of(history)
    try:
        return turns_of(
            [{"role": turn.role, "content": openai.content_text(turn.content)} for turn in history]
        )
    except ValueError as fault:
        raise UsageError(f"conversation_history: {fault}", code="unsupported") from fault


def _sampling(defaults: Sampling, params: GenerateParams) -> Sampling:
    given: dict[str, Any] = {
        "max_new_tokens": params.max_new_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k,
        "repetition_penalty": params.repetition_penalty,
        "seed": params.seed,
        "stop": (params.stop,) if isinstance(params.stop, str) else tuple(params.stop or ()),
    }
    chosen = {name: value for name, value in given.items() if value not in (None, ())}
    return dataclasses.replace(defaults, **chosen)
