"""The shapes in which Spaces are asked when they do not speak OpenAI's API.

Each dialect is an encoding of a prompt and a decoding of an answer; the letters are those of the
originals' own documents. Which one a Space speaks is found out in `hf_space`.

Source: five wire formats in the original systems; Gradio's is in `gradio`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from triptych.errors import UpstreamFailed, UpstreamMalformed, UpstreamUnfit
from triptych.tiers.providers.base import UpstreamCall
from triptych.wire.openai import content_text, error_message


@dataclass(frozen=True, slots=True)
class Answered:
    """The text of an answer and the revision it names."""

    text: str
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to ask: where, with what body, and where the text is in the answer."""

    name: str
    paths: tuple[str, ...]
    encode: Callable[[UpstreamCall], Any]
    decode: Callable[[Any], Answered]


def _params(call: UpstreamCall, length: str) -> dict[str, Any]:
    """Translate OpenAI's parameter names; what the caller left out is left out, 0 stays 0."""
    params: dict[str, Any] = {}
    limit = call.params.get("max_tokens", call.params.get("max_completion_tokens"))
    if limit is not None:
        params[length] = limit
    for name in ("temperature", "top_p", "seed"):
        if call.params.get(name) is not None:
            params[name] = call.params[name]
    if stop := call.params.get("stop"):
        params["stop"] = [stop] if isinstance(stop, str) else list(stop)
    return params


def last_text(call: UpstreamCall) -> str:
    """Return the input: the last message.

    Raises: UpstreamUnfit.
    """
    return _text(call.messages[-1], call)


def _text(message: Mapping[str, Any], call: UpstreamCall) -> str:
    content = message.get("content")
    try:
        if call.kind == "text" and not isinstance(content, str):
            raise ValueError("it takes one prompt, as a text")
        return content_text(content)
    except ValueError as error:
        raise UpstreamUnfit(f"the Space for {call.tier} takes text only: {error}") from error


def flat_prompt(call: UpstreamCall) -> str:
    """Write history and input as one text, for Spaces that know no messages."""
    if len(call.messages) == 1:
        return last_text(call)
    lines = [f"{m['role']}: {_text(m, call)}" for m in call.messages]
    return "\n".join([*lines, "assistant:"])


def history(call: UpstreamCall, *, bare: bool = False) -> list[dict[str, str]]:
    """Return everything before the input as role and content; `bare` without the contexts."""
    messages = (call.bare_messages if bare else None) or call.messages
    return [{"role": str(m["role"]), "content": _text(m, call)} for m in messages[:-1]]


def _encode_guide(call: UpstreamCall) -> dict[str, Any]:
    params = _params(call, "max_length")
    if earlier := history(call, bare=True):
        params["conversation_history"] = orjson.dumps(earlier).decode()
    if call.company_context:
        params["context"] = orjson.dumps(call.company_context).decode()
    if call.abstraction_context:
        params["abstraction_context"] = orjson.dumps(call.abstraction_context).decode()
    return {"prompt": last_text(call), "params": params}


def _encode_inputs(call: UpstreamCall) -> dict[str, Any]:
    return {"inputs": flat_prompt(call), "parameters": _params(call, "max_new_tokens")}


def _encode_data(call: UpstreamCall) -> dict[str, Any]:
    return {"data": [flat_prompt(call)]}


def _encode_inference(call: UpstreamCall) -> dict[str, Any]:
    body = _encode_inputs(call)
    body["parameters"]["return_full_text"] = False
    return body


def _decode_generated(body: Any) -> Answered:
    if isinstance(body, list) and body:
        body = body[0]
    if isinstance(body, Mapping):
        _raise_error(body)
        text = body.get("generated_text")
        if isinstance(text, str) and text:
            revision = body.get("model_version") or body.get("revision") or ""
            return Answered(text, str(revision))
    raise UpstreamMalformed("the Space answered without a text")


def _decode_data(body: Any) -> Answered:
    if isinstance(body, Mapping):
        _raise_error(body)
        data = body.get("data")
        if isinstance(data, list) and data:
            first = data[0]
            if isinstance(first, str) and first:
                return Answered(first)
            return _decode_generated(first)
    raise UpstreamMalformed("the Space answered without a text")


def _raise_error(body: Mapping[str, Any]) -> None:
    """An error is an error, also with status 200."""
    if body.get("error"):
        raise UpstreamFailed(
            f"the Space reports: {error_message(body)[:200] or 'an error'}", code="space_error"
        )


GUIDE = Dialect("generate-params", ("api/generate",), _encode_guide, _decode_generated)
INPUTS = Dialect(
    "generate-inputs", ("api/generate", "api/predict"), _encode_inputs, _decode_generated
)
DATA = Dialect("data", ("api/predict", "run/predict", "run", "predict"), _encode_data, _decode_data)
INFERENCE = Dialect("inference", ("",), _encode_inference, _decode_generated)

#: Tried in this order.
DIALECTS: tuple[Dialect, ...] = (GUIDE, INPUTS, DATA, INFERENCE)
