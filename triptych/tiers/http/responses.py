"""`/v1/responses`: OpenAI's newer API over the chat path, whole and streamed.

What is translated: texts, images and files, functions with their results, reasoning, JSON schemas,
log-probabilities. Left out: tools that run at OpenAI, and those without a schema; where answers
are kept (`store.personal_data.responses`).

Source: the types of the openai SDK 3.x, which the tests parse the answers with.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from triptych.errors import InvalidQuery
from triptych.tiers.http.deltas import count
from triptych.wire import fields, reading

Shape = dict[str, Any]

_SAME = ("model", "temperature", "top_p", "stream", "parallel_tool_calls", "user", "metadata",
         "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
         "moderation", "prompt_cache_options")  # fmt: skip
_ITEM_IDS = {"message": "msg_", "function_call_output": "fco_"}
_STORED = ("conversation", "prompt")


def read(body: Mapping[str, Any]) -> Shape:
    """Return what a client set.

    Raises: InvalidQuery.
    """
    try:
        given = reading.given(body, fields.OPENAI_RESPONSES | fields.EXTENSIONS)
    except reading.FieldFault as fault:
        raise InvalidQuery(str(fault), param=fault.field) from fault
    for name in _STORED:
        if name in given:
            raise _fault(name, "is stored at OpenAI only: send the input, or previous_response_id")
    if given.get("background"):
        raise _fault("background", "is not stored to be asked for later: use a stream")
    if not isinstance(given.get("previous_response_id", ""), str):
        raise _fault("previous_response_id", "must be the id of an answer")
    return given


def input_items(given: Shape) -> list[Shape]:
    """Return the input as items with ids, as OpenAI lists them."""
    asked = given.get("input")
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    found = []
    for item in items or ():
        kind = item.get("type") or "message"
        shown = {"id": _ITEM_IDS.get(kind, "item_") + secrets.token_hex(12), "type": kind, **item}
        if kind == "message" and isinstance(item.get("content"), str):
            part = "output_text" if item.get("role") == "assistant" else "input_text"
            shown["content"] = [{"type": part, "text": item["content"]}]
        found.append(shown)
    return found


def chat_body(given: Shape, earlier: Sequence[Shape] = ()) -> Shape:
    """Translate a request into one of chat completions; unknown fields stay.

    `earlier` are the items of the conversation that it goes on with.

    Raises: InvalidQuery.
    """
    known = fields.OPENAI_RESPONSES
    found = {n: v for n, v in given.items() if n in _SAME or (n not in known and n != "adapter")}
    if "adapter" in given:
        found["adapter"] = given["adapter"]
    found["messages"] = _messages(given, earlier)
    found["max_completion_tokens"] = given.get("max_output_tokens")
    reasoning = given.get("reasoning")
    if isinstance(reasoning, Mapping):
        found["reasoning_effort"] = reasoning.get("effort")
    tools = chat_tools(given.get("tools"))
    if tools:
        found["tools"], found["tool_choice"] = tools, _choice(given.get("tool_choice"))
    else:
        found.pop("parallel_tool_calls", None)
    text = given.get("text")
    if isinstance(text, Mapping):
        found["verbosity"] = text.get("verbosity")
        found["response_format"] = _format(text.get("format"))
    if given.get("top_logprobs") or "message.output_text.logprobs" in given.get("include", ()):
        found["logprobs"], found["top_logprobs"] = True, given.get("top_logprobs")
    if given.get("stream"):
        found["stream_options"] = {"include_usage": True}
    return found


def _format(given: Any) -> Shape | None:
    if not isinstance(given, Mapping) or given.get("type") == "text":
        return None
    if given.get("type") != "json_schema":
        return dict(given)
    schema = {name: value for name, value in given.items() if name != "type"}
    return {"type": "json_schema", "json_schema": schema}


def chat_tools(given: Any) -> list[Shape]:
    """Translate the tools that a client runs; those that run at OpenAI exist nowhere else."""
    found = []
    for tool in given or ():
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        if kind == "function":
            inner = {n: v for n, v in tool.items() if n != "type" and v is not None}
            found.append({"type": kind, kind: inner})
    return found


def _choice(given: Any) -> Any:
    if not isinstance(given, Mapping):
        return given
    kind = given.get("type")
    if kind == "function":
        return {"type": kind, kind: {"name": given.get("name")}}
    return given.get("mode") or "auto"


# -- the input -----------------------------------------------------------------------------------


def _messages(given: Shape, earlier: Sequence[Shape]) -> list[Shape]:
    found: list[Shape] = []
    if given.get("instructions"):
        found.append({"role": "system", "content": given["instructions"]})
    items = given.get("input")
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    if not isinstance(items, list) or not items:
        raise _fault("input", "must be a text or a list of at least one item")
    thought = ""
    for number, item in enumerate([*earlier, *items], start=-len(earlier)):
        if not isinstance(item, Mapping):
            raise _fault(f"input.{number}", "must be an object")
        kind = item.get("type") or "message"
        if kind == "reasoning":
            thought += _thought(item)
            continue
        message = _item(item, kind, f"input.{number}")
        if thought and message["role"] == "assistant":
            message["reasoning_content"] = thought
        if not _joins(found, message):
            found.append(message)
        thought = ""
    return found


def _item(item: Mapping[str, Any], kind: str, where: str) -> Shape:
    if kind == "message":
        return {"role": item.get("role"), "content": _content(item.get("content"), where)}
    if kind in ("function_call", "custom_tool_call"):
        name = item.get("name")
        call: Shape = {"id": item.get("call_id"), "type": "function"}
        if kind == "function_call":
            call["function"] = {"name": name, "arguments": item.get("arguments") or "{}"}
        else:
            call |= {"type": "custom", "custom": {"name": name, "input": item.get("input") or ""}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind in ("function_call_output", "custom_tool_call_output"):
        output = _content(item.get("output"), where)
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": output}
    raise _fault(f"{where}.type", f"{str(kind)[:40]!r} is not known here")


def _joins(found: list[Shape], message: Shape) -> bool:
    """Put calls into the assistant's message before them: one turn is one message there."""
    last = found[-1] if found else {}
    if last.get("role") != "assistant" or "tool_calls" not in message:
        return False
    last["tool_calls"] = [*last.get("tool_calls", ()), *message["tool_calls"]]
    return True


def _thought(item: Mapping[str, Any]) -> str:
    parts = [*(item.get("content") or ()), *(item.get("summary") or ())]
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, Mapping))


def _content(given: Any, where: str) -> Any:
    if given is None or isinstance(given, str):
        return given
    if not isinstance(given, list):
        raise _fault(f"{where}.content", "must be a text or a list of parts")
    parts = [_part(part, where) for part in given]
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(part: Any, where: str) -> Shape:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in ("input_text", "output_text", "text", "summary_text", "refusal"):
        return {"type": "text", "text": str(part.get("text") or part.get("refusal") or "")}
    if kind == "input_image" and part.get("image_url"):
        image = {"url": part["image_url"], "detail": part.get("detail")}
        return {"type": "image_url", "image_url": {n: v for n, v in image.items() if v}}
    if kind == "input_file" and part.get("file_data"):
        names = ("file_data", "filename")
        return {"type": "file", "file": {n: part[n] for n in names if part.get(n)}}
    if kind == "input_audio":
        return dict(part)
    raise _fault(
        f"{where}.content", f"holds a part of type {str(kind)[:40]!r}, which is not known here"
    )


def _fault(field: str, sentence: str) -> InvalidQuery:
    return InvalidQuery(f"{field} {sentence}", param=field, code="unsupported", status=400)


# -- what every answer repeats -------------------------------------------------------------------


def head(given: Shape, request_id: str, model: str, created: float) -> Shape:
    """Build an answer before anything was said."""
    return {
        "id": "resp_" + request_id.removeprefix("req_"),
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": given.get("instructions"),
        "metadata": given.get("metadata") or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": given.get("parallel_tool_calls", True),
        "temperature": given.get("temperature"),
        "tool_choice": given.get("tool_choice") or "auto",
        "tools": [t for t in given.get("tools") or () if chat_tools([t])],
        "top_p": given.get("top_p"),
        "max_output_tokens": given.get("max_output_tokens"),
        "previous_response_id": given.get("previous_response_id"),
        "reasoning": given.get("reasoning") or {"effort": None, "summary": None},
        "store": bool(given.get("store")),
        "text": given.get("text") or {"format": {"type": "text"}},
        "truncation": "disabled",
        "usage": None,
    }


def usage(block: Mapping[str, Any]) -> Shape:
    """Translate the counts of tokens."""
    asked, answered = count(block, "prompt_tokens"), count(block, "completion_tokens")
    return {
        "input_tokens": asked,
        "input_tokens_details": {
            "cached_tokens": count(block, "prompt_tokens_details", "cached_tokens"),
            "cache_write_tokens": 0,
        },
        "output_tokens": answered,
        "output_tokens_details": {
            "reasoning_tokens": count(block, "completion_tokens_details", "reasoning_tokens")
        },
        "total_tokens": asked + answered,
    }
