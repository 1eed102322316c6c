"""Google's Gemini API (`generateContent`) as an upstream.

A call's `thoughtSignature`, which Gemini wants back with the next turn, travels with the call as
`extra_content`, the name that Google's own OpenAI shape has for it.

Source: https://ai.google.dev/api/generate-content, read November 2026.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from yarl import URL

from triptych.tiers.providers.base import UpstreamCall
from triptych.tiers.providers.translated import (
    Shape,
    add_to_turn,
    arguments_of,
    data_url,
    functions_of,
    limit_of,
    schema_of,
    stops_of,
    system_text,
    text_of,
)

_SAME = {"temperature": "temperature", "top_p": "topP", "top_k": "topK", "n": "candidateCount",
         "seed": "seed", "presence_penalty": "presencePenalty",
         "frequency_penalty": "frequencyPenalty"}  # fmt: skip
_REASONS = {"STOP": "stop", "MAX_TOKENS": "length"}
_MODES = {"auto": "AUTO", "required": "ANY", "none": "NONE"}


def key_header(key: str) -> Mapping[str, str]:
    """Return the header of a key."""
    return {"x-goog-api-key": key}


class Gemini:
    """Translate to and from `generateContent`."""

    headers: Mapping[str, str] = {}

    def url(self, base: URL, model: str, *, stream: bool) -> URL:
        """Return where a model is asked."""
        act = "streamGenerateContent" if stream else "generateContent"
        url = base / "models" / f"{model.removeprefix('models/')}:{act}"
        return url.with_query(alt="sse") if stream else url

    def request(self, call: UpstreamCall, *, stream: bool) -> Shape:
        """Write a call.

        Raises: ValueError.
        """
        params = call.params
        if params.get("logit_bias"):
            raise ValueError("logit_bias exists not there")
        body: Shape = {"contents": _contents(call)}
        if system := system_text(call.messages):
            body["systemInstruction"] = {"parts": [{"text": system}]}
        config = {to: params[name] for name, to in _SAME.items() if params.get(name) is not None}
        if (limit := limit_of(params)) is not None:
            config["maxOutputTokens"] = limit
        if stops := stops_of(params):
            config["stopSequences"] = stops
        if (schema := schema_of(params)) is not None:
            config["responseMimeType"] = "application/json"
            if schema != {"type": "object"}:
                config["responseJsonSchema"] = schema
        if params.get("logprobs"):
            config |= {"responseLogprobs": True, "logprobs": params.get("top_logprobs") or 0}
        if config:
            body["generationConfig"] = config
        if functions := functions_of(params):
            body["tools"] = [{"functionDeclarations": [_function(one) for one in functions]}]
            body["toolConfig"] = {"functionCallingConfig": _choice(params)}
        return body

    def answer(self, body: Shape) -> Shape:
        """Read a whole answer."""
        choices = []
        for number, candidate in enumerate(body["candidates"]):
            message: Shape = {"role": "assistant", "content": ""}
            calls: list[Shape] = []
            for delta in _deltas(candidate, calls):
                for name, text in delta.items():
                    message[name] = message.get(name, "") + text
            message |= {"tool_calls": calls} if calls else {}
            index = candidate.get("index", number)
            reason = _reason(candidate, calls) or "stop"
            choice = {"index": index, "message": message, "finish_reason": reason}
            choices.append(choice | _logprobs(candidate))
        if not choices:
            raise ValueError("no candidate")
        return {
            "model": body.get("modelVersion") or "",
            "choices": choices,
            "usage": _usage(body.get("usageMetadata") or {}),
        }

    def stream(self) -> _Stream:
        """Return what reads one stream."""
        return _Stream()


class _Stream:
    def __init__(self) -> None:
        self.ended = False
        self._calls: dict[int, list[Shape]] = {}
        self._open: set[int] = set()

    def take(self, event: Shape) -> Iterator[Shape]:
        model = {"model": v} if (v := event.get("modelVersion")) else {}
        for number, candidate in enumerate(event.get("candidates") or ()):
            index = candidate.get("index", number)
            self._open.add(index)
            if index not in self._calls:
                begun = {"index": index, "delta": {"role": "assistant", "content": ""}}
                yield {"choices": [{**begun, "finish_reason": None}], **model}
            calls = self._calls.setdefault(index, [])
            before = len(calls)
            deltas: list[Shape] = list(_deltas(candidate, calls))
            for place, call in enumerate(calls[before:], start=before):
                deltas.append({"tool_calls": [{**call, "index": place}]})
            reason = _reason(candidate, calls)
            if reason:
                self._open.discard(index)
            deltas = deltas or ([{}] if reason else [])
            for place, delta in enumerate(deltas):
                ends = reason if place == len(deltas) - 1 else None
                choice = {"index": index, "delta": delta, "finish_reason": ends}
                yield {"choices": [choice | _logprobs(candidate)], **model}
            self.ended = not self._open
        usage = event.get("usageMetadata")
        if usage and self.ended:
            yield {"usage": _usage(usage), **model}


def _deltas(candidate: Shape, calls: list[Shape]) -> Iterator[Shape]:
    """Yield the texts of a candidate's parts; its calls are added to `calls`."""
    for part in (candidate.get("content") or {}).get("parts") or ():
        if "functionCall" in part:
            given = part["functionCall"]
            arguments = json.dumps(given.get("args") or {}, ensure_ascii=False)
            call: Shape = {
                "id": given.get("id") or "call_" + secrets.token_hex(12),
                "type": "function",
                "function": {"name": given["name"], "arguments": arguments},
            }
            if signature := part.get("thoughtSignature"):
                call["extra_content"] = {"google": {"thought_signature": signature}}
            calls.append(call)
        elif part.get("text"):
            yield {"reasoning_content" if part.get("thought") else "content": part["text"]}


def _reason(candidate: Shape, calls: list[Shape]) -> str | None:
    given = candidate.get("finishReason")
    if not given:
        return None
    if given == "STOP" and calls:
        return "tool_calls"
    return _REASONS.get(given, "content_filter")


def _logprobs(candidate: Shape) -> Shape:
    result = candidate.get("logprobsResult")
    if not result:
        return {}

    def entry(one: Shape) -> Shape:
        token = one["token"]
        return {"token": token, "logprob": one["logProbability"], "bytes": list(token.encode())}

    listed = result.get("topCandidates") or [{}] * len(result["chosenCandidates"])
    content = [
        {**entry(one), "top_logprobs": [entry(other) for other in others.get("candidates") or ()]}
        for one, others in zip(result["chosenCandidates"], listed, strict=False)
    ]
    return {"logprobs": {"content": content, "refusal": None}}


def _usage(given: Mapping[str, Any]) -> Shape:
    asked = given.get("promptTokenCount") or 0
    thought = given.get("thoughtsTokenCount") or 0
    answered = (given.get("candidatesTokenCount") or 0) + thought
    return {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered,
        "prompt_tokens_details": {"cached_tokens": given.get("cachedContentTokenCount") or 0},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def _contents(call: UpstreamCall) -> list[Shape]:
    found: list[Shape] = []
    names: dict[str, str] = {}
    for message in call.messages:
        role, content = message.get("role"), message.get("content")
        if role in ("system", "developer"):
            continue
        if role in ("tool", "function"):
            call_id = str(message.get("tool_call_id"))
            name = names.get(call_id) or message.get("name") or call_id
            told = {"id": call_id, "name": name, "response": {"result": text_of(content)}}
            add_to_turn(found, "user", "parts", [{"functionResponse": told}])
        elif role == "assistant":
            said = text_of(content)
            parts: list[Shape] = [{"text": said}] if said else []
            for one in message.get("tool_calls") or ():
                names[one["id"]] = one["function"]["name"]
                parts.append(_call(one))
            add_to_turn(found, "model", "parts", parts)
        else:
            given = [{"type": "text", "text": content}] if isinstance(content, str) else content
            add_to_turn(found, "user", "parts", [_part(part) for part in given or ()])
    return found


def _call(one: Shape) -> Shape:
    called = {"id": one["id"], "name": one["function"]["name"], "args": arguments_of(one)}
    part: Shape = {"functionCall": called}
    google = (one.get("extra_content") or {}).get("google") or {}
    if signature := google.get("thought_signature"):
        part["thoughtSignature"] = signature
    return part


def _part(part: Any) -> Shape:
    if isinstance(part, str):
        return {"text": part}
    kind = part.get("type")
    if kind == "text":
        return {"text": part["text"]}
    address = {
        "image_url": (part.get("image_url") or {}).get("url"),
        "file": (part.get("file") or {}).get("file_data"),
    }.get(kind)
    if address:
        held = data_url(address)
        if held is None:
            return {"fileData": {"fileUri": address}}
        return {"inlineData": {"mimeType": held[0], "data": held[1]}}
    if kind == "input_audio":
        audio = part["input_audio"]
        return {"inlineData": {"mimeType": f"audio/{audio['format']}", "data": audio["data"]}}
    raise ValueError(f"a part of type {str(kind)[:40]!r}")


def _function(function: Shape) -> Shape:
    found = {"name": function["name"], "description": function.get("description") or ""}
    schema = function.get("parameters")
    return found | ({"parametersJsonSchema": schema} if schema else {})


def _choice(params: Mapping[str, Any]) -> Shape:
    given = params.get("tool_choice") or "auto"
    if isinstance(given, dict):
        return {"mode": "ANY", "allowedFunctionNames": [given["function"]["name"]]}
    return {"mode": _MODES[given]}
