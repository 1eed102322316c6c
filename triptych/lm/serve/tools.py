"""Tools of a chat request: which ones, whether one must be called, and the calls in an answer.

Models write calls in three ways: `<tool_call>{...}</tool_call>` (Qwen, Hermes, SmolLM3), a JSON
object as the whole answer (Llama 3), and `[TOOL_CALLS] [...]` (Mistral). All three are read.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from triptych.errors import UsageError
from triptych.wire import lenient_json
from triptych.wire.openai import Shape, content_text
from triptych.wire.requests import ChatMessage, ChatRequest

_OPEN = "<tool_call>"
_MARKS = (_OPEN, "[TOOL_CALLS]", "<|python_tag|>")
_START = re.compile(r"<tool_call>\s*|\[TOOL_CALLS\]\s*|<\|python_tag\|>\s*")
#: What a template may show of a message besides its role and content.
_TEMPLATE_FIELDS = {"name", "tool_call_id", "reasoning_content"}
_DECODER = json.JSONDecoder()


def template_message(message: ChatMessage) -> dict[str, Any]:
    """Turn one message into what chat templates read: text, and arguments as objects.

    Raises: UsageError for a part that is not text.
    """
    try:
        text = content_text(message.content)
    except ValueError as fault:
        raise UsageError(f"messages: {fault}", code="unsupported") from fault
    role = "system" if message.role == "developer" else message.role
    found: dict[str, Any] = {"role": role, "content": text}
    found |= message.model_dump(include=_TEMPLATE_FIELDS, exclude_none=True)
    if message.tool_calls:
        found["tool_calls"] = [_with_arguments(call) for call in message.tool_calls]
    return found


def _with_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the arguments of a call: OpenAI writes them as a text, templates read an object."""
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return dict(call)
    try:
        arguments = lenient_json.loads(function["arguments"])
    except ValueError:
        return dict(call)
    return {**call, "function": {**function, "arguments": arguments}}


def offered(body: ChatRequest) -> list[Shape]:
    """Return the tools that the model is shown.

    Raises: UsageError.
    """
    tools = body.tools or []
    for number, tool in enumerate(tools):
        function = tool.get("function")
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise UsageError(f"tools.{number} must be a function with a name", code="unsupported")
    return [] if body.tool_choice == "none" else tools


def forced_schema(body: ChatRequest, tools: Sequence[Shape]) -> Shape | None:
    """Return the JSON schema of the call that `tool_choice` asks for; None: the model decides.

    Raises: UsageError for a tool that is not offered.
    """
    choice = body.tool_choice
    if not tools or choice in (None, "auto", "none"):
        return None
    functions = [tool["function"] for tool in tools]
    if isinstance(choice, Mapping):
        wanted = (choice.get("function") or {}).get("name")
        functions = [function for function in functions if function["name"] == wanted]
        if not functions:
            raise UsageError(f"tool_choice names {str(wanted)[:64]!r}, which is not among tools")
    elif choice != "required":
        raise UsageError("tool_choice must be none, auto, required or a function")
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": function["name"]},
                "arguments": function.get("parameters") or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for function in functions
    ]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


class ToolReader:
    """Take the calls out of one answer, as it comes or whole."""

    def __init__(self, tools: Sequence[Shape], *, several: bool = True) -> None:
        self._names: Collection[str] = {tool["function"]["name"] for tool in tools}
        self._several = several
        self._held = ""
        self._holding = False
        self._shown = False

    def push(self, text: str) -> str:
        """Take the next text and return what is surely none of a call."""
        held = self._held = self._held + text
        if self._holding or not held:
            return ""
        if not self._shown and held.lstrip()[:1] in ("{", "["):
            self._holding = True
            return ""
        cut = min((at for mark in _MARKS if (at := held.find(mark)) >= 0), default=-1)
        if cut >= 0:
            self._holding = True
        else:
            cut = len(held) - max(_overlap(held, mark) for mark in _MARKS)
        if not self._shown and not held[:cut].strip():
            return ""  # white space before a call is no content
        shown, self._held = held[:cut], held[cut:]
        self._shown = True
        return shown

    def finish(self) -> tuple[str, list[Shape]]:
        """Return the rest of the text, and the calls."""
        held, self._held = self._held, ""
        calls = self._calls(held)
        if not calls:
            return held, []
        return "", calls if self._several else calls[:1]

    def _calls(self, held: str) -> list[Shape]:
        starts = [found.end() for found in _START.finditer(held)]
        if not starts and held.lstrip()[:1] in ("{", "["):
            starts = [len(held) - len(held.lstrip())]
        calls: list[Shape] = []
        for start in starts:
            try:
                value, _ = _DECODER.raw_decode(held, start)
            except (ValueError, RecursionError):
                continue
            for call in value if isinstance(value, list) else [value]:
                if isinstance(call, dict) and call.get("name") in self._names:
                    calls.append(_call(call))
        return calls


def _overlap(text: str, mark: str) -> int:
    """Return how many characters at the end of a text may begin a mark."""
    for length in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:length]):
            return length
    return 0


def _call(given: Mapping[str, Any]) -> Shape:
    arguments = given.get("arguments", given.get("parameters", {}))
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {
        "id": "call_" + secrets.token_hex(12),
        "type": "function",
        "function": {"name": given["name"], "arguments": arguments},
    }
