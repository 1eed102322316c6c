"""`/v1/chat/completions`, `/v1/completions` and `/v1/models`: OpenAI's API, streamed and whole."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from triptych.config.generate import Sampling
from triptych.errors import TriptychError, UsageError
from triptych.lm.generate.engine import Chunk, GenerateRequest, Token
from triptych.lm.serve import echo, tools
from triptych.lm.serve.http import JSON, EventStream, client_gone, error_answer
from triptych.lm.serve.logprobs import logprobs_shape
from triptych.lm.serve.service import Answer, Chosen, ModelService
from triptych.lm.serve.tools import ToolReader
from triptych.wire import lenient_json, openai, sse
from triptych.wire.requests import ChatRequest, CompletionRequest

#: Any JSON object, for `response_format: {"type": "json_object"}`.
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


@dataclass(frozen=True)
class Job:
    """One client's request, ready to run."""

    kind: openai.Kind
    chosen: Chosen
    requests: Sequence[GenerateRequest]
    stream: bool
    include_usage: bool
    logprobs: bool
    prompts: int = 1
    echo: bool = False
    read_only: bool = False
    tools: Sequence[openai.Shape] = ()
    several_calls: bool = True

    def reader(self) -> ToolReader | None:
        """Return what takes the calls out of one choice; None where no tool was offered."""
        return ToolReader(self.tools, several=self.several_calls) if self.tools else None


def routes(service: ModelService) -> APIRouter:
    """Build the routes of OpenAI's API."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        return await respond(service, chat_job(service, body), request)

    @router.post("/v1/completions")
    async def completions(body: CompletionRequest, request: Request) -> Response:
        return await respond(service, completion_job(service, body), request)

    @router.get("/v1/models")
    async def models() -> Response:
        return JSON(openai.model_list(model_cards(service)))

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        service.choose(name)
        return JSON(next(card for card in model_cards(service) if card["id"] == name))

    return router


def model_cards(service: ModelService) -> list[openai.Shape]:
    """Describe every model and adapter that can be named."""
    cards = []
    for model in service.models.values():
        cards.append(openai.model_card(model.name, created=model.created, revision=model.revision))
        cards += [
            openai.model_card(
                adapter, created=model.created, revision=model.revision, parent=model.name
            )
            for adapter in model.names[1:]
        ]
    return cards


def chat_job(service: ModelService, body: ChatRequest) -> Job:
    """Read a chat request."""
    messages = [tools.template_message(message) for message in body.messages]
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    max_tokens = body.max_completion_tokens or body.max_tokens
    sampling = _sampling(service.defaults, body, max_tokens, logprobs)
    offered = tools.offered(body)
    prompt = {"messages": tuple(messages), "tools": tuple(offered)}
    schema = tools.forced_schema(body, offered) or _schema(body)
    job = _job(service, "chat", body, sampling, [prompt], schema)
    several = body.parallel_tool_calls is not False
    return dataclasses.replace(job, tools=offered, several_calls=several)


def completion_job(service: ModelService, body: CompletionRequest) -> Job:
    """Read a completion request."""
    # No new token: the prompt alone is read, as measurements of a text's probability need.
    read_only = body.max_tokens == 0
    sampling = _sampling(service.defaults, body, body.max_tokens or None, body.logprobs)
    prompts = prompts_of(body.prompt)
    job = _job(
        service, "text", body, sampling, [{"prompt": prompt} for prompt in prompts], _schema(body)
    )
    return dataclasses.replace(job, echo=body.echo, read_only=read_only)


def prompts_of(given: str | list[int] | list[str] | list[list[int]]) -> list[str | list[int]]:
    """Read one prompt, or each of several; an empty list is one prompt without tokens."""
    if isinstance(given, str):
        return [given]
    several = [item for item in given if not isinstance(item, int)]
    return [*several] or [[item for item in given if isinstance(item, int)]]


def _sampling(
    defaults: Sampling,
    body: ChatRequest | CompletionRequest,
    max_tokens: int | None,
    logprobs: int | None,
) -> Sampling:
    given: dict[str, Any] = {
        "max_new_tokens": max_tokens,
        "temperature": body.temperature,
        "top_k": body.top_k,
        "top_p": body.top_p,
        "min_p": body.min_p,
        "repetition_penalty": body.repetition_penalty,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "logit_bias": _bias(body.logit_bias),
        "stop": _stops(body.stop),
        "seed": None if body.seed is None else body.seed % 2**63,
        "logprobs": logprobs,
        "ignore_eos": body.ignore_eos,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(defaults, **chosen)


def _bias(given: Mapping[str, float] | None) -> tuple[tuple[int, float], ...] | None:
    if given is None:
        return None
    if wrong := next((token for token in given if not token.isdecimal()), None):
        raise UsageError(f"logit_bias takes token ids, got {wrong[:40]!r}", code="token_ids")
    return tuple((int(token), bias) for token, bias in given.items())


def _stops(given: str | list[str] | None) -> tuple[str, ...] | None:
    texts = (given,) if isinstance(given, str) else tuple(given or ())
    return tuple(map(lenient_json.well_formed, texts)) or None


def _job(
    service: ModelService,
    kind: openai.Kind,
    body: ChatRequest | CompletionRequest,
    sampling: Sampling,
    prompts: Sequence[Mapping[str, Any]],
    schema: Mapping[str, Any] | None,
) -> Job:
    chosen = service.choose(body.model, body.adapter)
    seed = secrets.randbelow(2**63) if sampling.seed is None else sampling.seed
    requests = [
        GenerateRequest(
            **prompt,
            # Choices of one request differ, and repeat when the request does.
            sampling=dataclasses.replace(sampling, seed=(seed + index) % 2**63),
            adapter=chosen.adapter,
            json_schema=schema,
            reread=sampling.seed is not None,
        )
        for prompt in prompts
        for index in range(body.n)
    ]
    include_usage = bool(body.stream_options and body.stream_options.include_usage)
    return Job(
        kind,
        chosen,
        requests,
        body.stream,
        include_usage,
        sampling.logprobs is not None,
        len(prompts),
    )


def _schema(body: ChatRequest | CompletionRequest) -> Mapping[str, Any] | None:
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return ANY_OBJECT
    if wanted.json_schema is None:
        raise UsageError("response_format.json_schema is required", code="schema")
    return wanted.json_schema.schema_


async def respond(service: ModelService, job: Job, request: Request) -> Response:
    """Run a request and answer it, streamed or whole."""
    if job.read_only:
        return await _read_only(service, job)
    answer = await service.answer(job.chosen, job.requests)
    name = job.requests[0].adapter or job.chosen.model.name
    headers = {"x-triptych-model": name, "x-triptych-revision": job.chosen.model.revision}
    if job.stream:
        return EventStream(_events(job, name, answer), headers)
    collecting = asyncio.ensure_future(_collect(job, name, answer))
    leaving = asyncio.ensure_future(client_gone(request))
    try:
        await asyncio.wait((collecting, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not collecting.done():
            # No client is left to read this; the status only shows in our own records.
            return Response(status_code=499)
        return JSON(collecting.result(), headers=headers)
    finally:
        collecting.cancel()
        leaving.cancel()
        answer.close()


async def _events(job: Job, name: str, answer: Answer) -> AsyncGenerator[bytes, None]:
    fingerprint = job.chosen.model.revision
    writer = openai.ChunkWriter(job.kind, name, fingerprint=fingerprint)
    tally = _Tally(len(job.requests) // job.prompts)
    try:
        if job.kind == "chat":
            yield b"".join(
                writer.chunk(role="assistant", text="", index=index)
                for index in range(len(job.requests))
            )
        elif job.echo:
            for index, request in enumerate(job.requests):
                yield _echo_event(job, writer, index, await echo.read(answer.engine, request))
        readers = [job.reader() for _ in job.requests]
        async for batch in answer.batches():
            events: list[bytes] = []
            for index, chunk in batch:
                events += _chunk_events(job, writer, readers[index], index, chunk)
                if chunk.finish_reason is not None:
                    tally.add(index, chunk.input_tokens, chunk.output_tokens, chunk.cached_tokens)
            if events:
                yield b"".join(events)
        if job.include_usage:
            yield writer.usage(tally.usage())
        yield sse.DONE
    except TriptychError as error:
        # The status line is gone; the error goes down the stream, where the SDK raises it.
        yield sse.encode(bytes(error_answer(error).body))
        yield sse.DONE
    finally:
        answer.close()


def _chunk_events(
    job: Job, writer: openai.ChunkWriter, reader: ToolReader | None, index: int, chunk: Chunk
) -> list[bytes]:
    """Write one chunk of one choice as events."""
    events, text, reason = [], chunk.text, chunk.finish_reason
    calls: Sequence[openai.Shape] = ()
    if reader is not None:
        text = reader.push(text)
        if reason is not None:
            rest, calls = reader.finish()
            text += rest
    if text and not job.logprobs:
        events.append(writer.text(text, index))
    elif text or chunk.tokens:
        logprobs = logprobs_shape(job.kind, chunk.tokens)
        events.append(writer.chunk(text=text, index=index, logprobs=logprobs))
    if calls:
        events.append(writer.chunk(index=index, tool_calls=calls))
    if reason is not None:
        ended = "tool_calls" if calls and reason == "stop" else reason
        events.append(writer.chunk(index=index, finish_reason=ended))
    return events


async def _collect(job: Job, name: str, answer: Answer) -> openai.Shape:
    texts: list[list[str]] = [[] for _ in job.requests]
    tokens: list[list[Token]] = [[] for _ in job.requests]
    reasons = ["stop"] * len(job.requests)
    tally = _Tally(len(job.requests) // job.prompts)
    async for batch in answer.batches():
        for index, chunk in batch:
            texts[index].append(chunk.text)
            tokens[index].extend(chunk.tokens)
            if chunk.finish_reason is not None:
                reasons[index] = chunk.finish_reason
                tally.add(index, chunk.input_tokens, chunk.output_tokens, chunk.cached_tokens)
    if job.echo:
        for index, request in enumerate(job.requests):
            prompt = await echo.read(answer.engine, request)
            texts[index].insert(0, prompt.text)
            tokens[index][:0] = prompt.tokens
    choices = [
        _choice(job, index, "".join(texts[index]), reasons[index], tokens[index])
        for index in range(len(job.requests))
    ]
    return openai.completion(
        job.kind, name, choices, tally.usage(), system_fingerprint=job.chosen.model.revision
    )


def _choice(job: Job, index: int, text: str, reason: str, tokens: Sequence[Token]) -> openai.Shape:
    logprobs = logprobs_shape(job.kind, tokens) if job.logprobs else None
    if job.kind == "text":
        return openai.text_choice(text, reason, index=index, logprobs=logprobs)
    calls: Sequence[openai.Shape] = ()
    if (reader := job.reader()) is not None:
        shown = reader.push(text)
        rest, calls = reader.finish()
        text = shown + rest
    reason = "tool_calls" if calls and reason == "stop" else reason
    return openai.chat_choice(text, reason, index=index, logprobs=logprobs, tool_calls=calls)


def _echo_event(
    job: Job, writer: openai.ChunkWriter, index: int, prompt: echo.Prompt, reason: str | None = None
) -> bytes:
    logprobs = logprobs_shape(job.kind, prompt.tokens) if job.logprobs else None
    return writer.chunk(text=prompt.text, index=index, logprobs=logprobs, finish_reason=reason)


async def _read_only(service: ModelService, job: Job) -> Response:
    """Answer a request for no new token."""
    name = job.requests[0].adapter or job.chosen.model.name
    with await service.lease(job.chosen.model) as engine:
        prompts = [await echo.read(engine, request, count=True) for request in job.requests]
    tally = _Tally(len(job.requests) // job.prompts)
    for index, prompt in enumerate(prompts):
        tally.add(index, prompt.input_tokens, 0, 0)
    shown = prompts if job.echo else [echo.Prompt() for _ in prompts]
    if not job.stream:
        choices = [
            _choice(job, index, prompt.text, "length", prompt.tokens)
            for index, prompt in enumerate(shown)
        ]
        fingerprint = job.chosen.model.revision
        shape = openai.completion(
            job.kind, name, choices, tally.usage(), system_fingerprint=fingerprint
        )
        return JSON(shape)

    async def events() -> AsyncGenerator[bytes, None]:
        writer = openai.ChunkWriter(job.kind, name, fingerprint=job.chosen.model.revision)
        for index, prompt in enumerate(shown):
            yield _echo_event(job, writer, index, prompt, "length")
        if job.include_usage:
            yield writer.usage(tally.usage())
        yield sse.DONE

    return EventStream(events(), {})


class _Tally:
    """Sum the usage of one request; a prompt with several choices counts once."""

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self.input_tokens = self.output_tokens = self.cached_tokens = 0

    def add(self, index: int, input_tokens: int, output_tokens: int, cached_tokens: int) -> None:
        self.output_tokens += output_tokens
        if index % self._choices == 0:
            self.input_tokens += input_tokens
            self.cached_tokens += cached_tokens

    def usage(self) -> openai.Shape:
        return openai.usage(self.input_tokens, self.output_tokens, self.cached_tokens)
