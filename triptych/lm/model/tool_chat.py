"""Tools in a chat: through the model's own template, or in words where it knows none.

What a model writes to call a tool is read in `lm.serve.tools`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]

_WORDS = """You can call these functions; each line is one, as JSON:
{tools}
To call one, answer with a line for each call and nothing else:
<tool_call>{{"name": "its name", "arguments": {{"parameter": "value"}}}}</tool_call>
A function's result comes back in the next message. Call none where none is needed."""


def knows_tools(template: str) -> bool:
    """Return whether a chat template renders tools itself."""
    return "tools" in template


def in_words(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Write tools, calls and results as the text of ordinary messages."""
    found = [_plain(dict(message)) for message in messages]
    if not tools:
        return found
    lines = "\n".join(json.dumps(tool.get("function", tool), ensure_ascii=False) for tool in tools)
    words = _WORDS.format(tools=lines)
    if found and found[0]["role"] == "system":
        return [{**found[0], "content": f"{found[0]['content']}\n\n{words}"}, *found[1:]]
    return [{"role": "system", "content": words}, *found]


def _plain(message: Message) -> Message:
    content = str(message.get("content") or "")
    if message["role"] in ("tool", "function"):
        return {"role": "user", "content": f"<tool_response>{content}</tool_response>"}
    calls = message.get("tool_calls")
    if not calls:
        return message
    lines = [content] if content else []
    for call in calls:
        function = call.get("function") or {}
        spelled = {"name": function.get("name"), "arguments": function.get("arguments")}
        lines.append(f"<tool_call>{json.dumps(spelled, ensure_ascii=False)}</tool_call>")
    return {"role": message["role"], "content": "\n".join(lines)}
