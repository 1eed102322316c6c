"""The comparison as code that runs when it is pasted: curl, plain Python, the openai SDK.

All three ask the addresses of `targets`: this page's own `/models/v1`, or the gateway's `/v1`,
whose key they read from TRIPTYCH_GATEWAY_KEY.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pprint import pformat
from typing import Any

from triptych.config.generate import Sampling

KEY = "TRIPTYCH_GATEWAY_KEY"
_PLAIN = ("temperature", "top_p", "seed", "stop")
_OURS = ("top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True)
class Target:
    """Where a model answers: a base URL that ends in /v1, and its name there."""

    base_url: str
    model: str
    needs_key: bool = False


def settings(sampling: Sampling, *, extended: bool) -> dict[str, Any]:
    """Return the sampling as OpenAI's API names it; `extended` adds what only we and vLLM know."""
    off = Sampling()
    found: dict[str, Any] = {"max_tokens": sampling.max_new_tokens}
    names = (*_PLAIN, *_OURS) if extended else _PLAIN
    for name in names:
        value = getattr(sampling, name)
        if value not in (None, ()) and (name == "temperature" or value != getattr(off, name)):
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def curl(targets: Sequence[Target], prompt: str, sampling: Sampling, *, chat: bool) -> str:
    """Write a command for each model."""
    commands = []
    for target in targets:
        extended = not target.needs_key
        body = {
            "model": target.model,
            **_asked(prompt, chat),
            **settings(sampling, extended=extended),
        }
        text = json.dumps(body, ensure_ascii=False, indent=2)
        lines = [f"curl {target.base_url}/{_path(chat)}", "  -H 'Content-Type: application/json'"]
        if target.needs_key:
            lines.append(f'  -H "Authorization: Bearer ${KEY}"')
        lines.append(f"  -d {shlex.quote(text)}")
        commands.append(" \\\n".join(lines))
    return "\n\n".join(commands)


def python(targets: Sequence[Target], prompt: str, sampling: Sampling, *, chat: bool) -> str:
    """Write a program that needs nothing but Python."""
    answer = '["message"]["content"]' if chat else '["text"]'
    return f'''import json
import os
import urllib.request

PROMPT = {_literal(prompt)}
MODELS = {_models(targets)}
SETTINGS = {_pretty(settings(sampling, extended=_all_ours(targets)))}

for base_url, model in MODELS:
    body = {{"model": model, {_python_asked(chat)}, **SETTINGS}}
    request = urllib.request.Request(
        f"{{base_url}}/{_path(chat)}",
        json.dumps(body).encode(),
        {{
            "Content-Type": "application/json",
            "Authorization": "Bearer " + os.environ.get("{KEY}", "none"),
        }},
    )
    with urllib.request.urlopen(request) as response:
        answer = json.load(response)
    print(f"== {{model}}")
    print(answer["choices"][0]{answer})
'''


def openai_sdk(targets: Sequence[Target], prompt: str, sampling: Sampling, *, chat: bool) -> str:
    """Write a program for the openai package that streams."""
    given = settings(sampling, extended=_all_ours(targets))
    extra = {name: given.pop(name) for name in _OURS if name in given}
    if extra:
        given["extra_body"] = extra
    call = "chat.completions" if chat else "completions"
    text = "delta.content" if chat else "text"
    return f'''import os

from openai import OpenAI  # pip install openai

PROMPT = {_literal(prompt)}
MODELS = {_models(targets)}
SETTINGS = {_pretty(given)}

for base_url, model in MODELS:
    client = OpenAI(base_url=base_url, api_key=os.environ.get("{KEY}", "none"))
    stream = client.{call}.create(
        model=model, {_sdk_asked(chat)}, stream=True, **SETTINGS
    )
    print(f"== {{model}}")
    for chunk in stream:
        if chunk.choices:
            print(chunk.choices[0].{text} or "", end="", flush=True)
    print()
'''


def _all_ours(targets: Sequence[Target]) -> bool:
    return not any(target.needs_key for target in targets)


def _path(chat: bool) -> str:
    return "chat/completions" if chat else "completions"


def _asked(prompt: str, chat: bool) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}


def _python_asked(chat: bool) -> str:
    return '"messages": [{"role": "user", "content": PROMPT}]' if chat else '"prompt": PROMPT'


def _sdk_asked(chat: bool) -> str:
    return 'messages=[{"role": "user", "content": PROMPT}]' if chat else "prompt=PROMPT"


def _models(targets: Sequence[Target]) -> str:
    rows = "".join(f"    ({_literal(t.base_url)}, {_literal(t.model)}),\n" for t in targets)
    return f"[\n{rows}]"


def _literal(text: str) -> str:
    """Write a string as Python, in double quotes and with real characters where it can be."""
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else repr(text)


def _pretty(values: dict[str, Any]) -> str:
    return pformat(values, sort_dicts=False, width=88)
