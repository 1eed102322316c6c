"""A Gradio application asked as programs ask it: post a call, read its events.

Gradio 5 and 6 live under `/gradio_api`, Gradio 4 does not; `/config` says so. Which endpoint takes
a prompt, and which of its parameters means what, is read from the application's own description.
A `generating` event carries the whole text so far; what is handed on is what was added.

Source: gradio 6.31 routes `/call/{api_name}` and its event stream.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from yarl import URL

from triptych.errors import (
    UpstreamBusy,
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamMalformed,
    UpstreamMissing,
)
from triptych.tiers.providers.base import UpstreamCall
from triptych.tiers.providers.dialects import flat_prompt, history, last_text
from triptych.tiers.providers.quota import quota_error, quota_wait_s
from triptych.tiers.providers.transport import Transport

_PREFERRED = ("/generate", "/predict", "/chat", "/respond", "/infer")
_PROMPTS = ("prompt", "message", "input", "inputs", "text", "query", "question")
_HISTORIES = ("history", "conversation_history", "chat_history")
_CONTEXTS = ("context", "company_context", "abstraction_context")
_LIMITS = ("max_new_tokens", "max_tokens", "max_length")
_SAMPLING = ("temperature", "top_p", "top_k", "seed", "repetition_penalty")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One named endpoint of a Gradio application and its parameters in order."""

    url: URL
    parameters: tuple[Mapping[str, Any], ...]

    def arguments(self, call: UpstreamCall) -> list[Any]:
        """Fill the parameters from a call; what is not known keeps its default."""
        names = [str(parameter.get("parameter_name") or "") for parameter in self.parameters]
        prompt_at = next((i for i, name in enumerate(names) if name in _PROMPTS), 0)
        if call.bare_messages and any(name in _CONTEXTS for name in names):
            call = dataclasses.replace(call, messages=call.bare_messages)
        knows_history = any(name in _HISTORIES for name in names)
        return [
            (last_text(call) if knows_history else flat_prompt(call))
            if position == prompt_at
            else _argument(name, parameter, call)
            for position, (name, parameter) in enumerate(zip(names, self.parameters, strict=True))
        ]


def _argument(name: str, parameter: Mapping[str, Any], call: UpstreamCall) -> Any:
    params = call.params
    if name in _HISTORIES:
        return orjson.dumps(history(call)).decode() if _wants_text(parameter) else history(call)
    if name in _LIMITS:
        limit = params.get("max_tokens", params.get("max_completion_tokens"))
        if limit is not None:
            return limit
    elif name in _SAMPLING and params.get(name) is not None:
        return params[name]
    elif name in ("context", "company_context") and call.company_context:
        return orjson.dumps(call.company_context).decode()
    elif name == "abstraction_context" and call.abstraction_context:
        return orjson.dumps(call.abstraction_context).decode()
    return parameter.get("parameter_default")


def _wants_text(parameter: Mapping[str, Any]) -> bool:
    return (parameter.get("type") or {}).get("type") == "string"


async def discover(transport: Transport, base: URL) -> Endpoint:
    """Read the application's description and choose the endpoint that takes a prompt.

    Raises: UpstreamMissing when this is no Gradio application or has no such endpoint.
    """
    config, _ = await transport.json("GET", base / "config")
    if not isinstance(config, dict) or "version" not in config:
        raise UpstreamMissing(f"{transport.upstream.name} is no Gradio application")
    prefix = str(config.get("api_prefix") or "").strip("/")
    root = base / prefix if prefix else base
    info, _ = await transport.json("GET", root / "info")
    named = info.get("named_endpoints") if isinstance(info, dict) else None
    for name in _ordered(named or {}):
        described = named[name] if named else {}
        parameters = tuple(described.get("parameters") or ())
        if parameters and _takes_text(parameters) and described.get("returns"):
            return Endpoint(root / "call" / name.strip("/"), parameters)
    raise UpstreamMissing(f"{transport.upstream.name} has no endpoint that takes a prompt")


def _ordered(named: Mapping[str, Any]) -> list[str]:
    known = [name for name in _PREFERRED if name in named]
    return known + [name for name in named if name not in known]


def _takes_text(parameters: tuple[Mapping[str, Any], ...]) -> bool:
    return any(
        parameter.get("parameter_name") in _PROMPTS for parameter in parameters
    ) or _wants_text(parameters[0])


async def pieces(
    transport: Transport, endpoint: Endpoint, call: UpstreamCall
) -> AsyncGenerator[str]:
    """Call the endpoint and yield what each event adds to the text.

    Raises: UpstreamError.
    """
    event_id = await _join(transport, endpoint, call)
    told = ""
    events = transport.events(endpoint.url / event_id, method="GET")
    try:
        async for event in events:
            if event.event == "heartbeat":
                continue
            data = _loads(event.data)
            if event.event == "error":
                raise _error(transport.upstream.name, data, told)
            if event.event not in ("generating", "complete"):
                continue
            text = text_of(data)
            if text.startswith(told):
                if added := text[len(told) :]:
                    yield added
                told = text
            elif event.event == "complete":
                raise UpstreamInterrupted(
                    f"{transport.upstream.name} rewrote what it had already said",
                    code="upstream_rewritten",
                )
            if event.event == "complete":
                if not told:
                    raise UpstreamMalformed(f"{transport.upstream.name} answered with no text")
                return
    finally:
        await events.aclose()
    raise UpstreamInterrupted(
        f"{transport.upstream.name} ended its events early", code="upstream_truncated"
    )


async def _join(transport: Transport, endpoint: Endpoint, call: UpstreamCall) -> str:
    name = transport.upstream.name
    try:
        body, _ = await transport.json(
            "POST", endpoint.url, payload={"data": endpoint.arguments(call)}
        )
    except UpstreamFailed as error:
        if error.status == 503 and error.code != "upstream_page":
            raise UpstreamBusy(
                f"the queue of {name} is full", code="space_queue_full", retry_after_s=1.0
            ) from error
        raise
    event_id = body.get("event_id") if isinstance(body, dict) else None
    if not isinstance(event_id, str) or not event_id:
        raise UpstreamMalformed(f"{name} gave no event id")
    return event_id


def _error(name: str, data: Any, told: str) -> Exception:
    text = data if isinstance(data, str) else ""
    if isinstance(data, Mapping):
        text = str(data.get("error") or "")
    if (wait_s := quota_wait_s(text)) is not None and not told:
        return quota_error(name, wait_s)
    # The text may be HTML of unknown origin; it goes into no message.
    if told:
        return UpstreamInterrupted(f"{name} reports an error", code="space_error")
    return UpstreamFailed(f"{name} reports an error", code="space_error", retryable=False)


def _loads(data: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UpstreamMalformed("a Gradio event is not JSON") from error


def text_of(data: Any) -> str:
    """Find the text in an endpoint's outputs: a string, or the last turn of a chat."""
    value = data[0] if isinstance(data, list) and data else data
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        for name in ("generated_text", "text", "content", "value"):
            if isinstance(value.get(name), str):
                return str(value[name])
    if isinstance(value, list) and value:
        last = value[-1]
        if isinstance(last, Mapping) and isinstance(last.get("content"), str):
            return str(last["content"])
        if isinstance(last, list) and last and isinstance(last[-1], str):
            return last[-1]
    return ""
