"""A chat template as text: rendered in a sandbox, without a turn that a message could forge.

Left out: from text to tokens (`tokenizer`), and tools in words (`tool_chat`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from triptych.errors import DataError

if TYPE_CHECKING:
    from jinja2 import Template

_STAND_IN = "\ue000"
#: Marks where the text of an answer ends that is to be continued; what follows is left out.
CUT = "\ue001"


def begun_answer(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the text that an answer continues; empty: it begins a new turn."""
    last = messages[-1] if messages else {}
    content = last.get("content")
    begun = last.get("role") == "assistant" and not last.get("tool_calls")
    return content if begun and isinstance(content, str) else ""


def until_cut(rendered: str) -> str:
    """Return a rendered chat up to the mark.

    Raises: DataError where the template left the last message out.
    """
    before, mark, _ = rendered.rpartition(CUT)
    if not mark:
        raise DataError(
            "the chat template does not show the assistant's last message",
            hint="let the last message be the user's",
        )
    return before


def render(template: str, **values: Any) -> str:
    """Render a template.

    Raises: DataError where it rejects the messages.
    """
    from jinja2 import TemplateError

    try:
        return _compiled(template).render(**values)
    except TemplateError as error:
        raise DataError(f"the chat template rejects these messages: {error}") from error


@lru_cache(maxsize=16)
def _compiled(template: str) -> Template:
    """Return a template ready to render: compiling it takes far longer than rendering it.

    It may use what transformers gives a template: `raise_exception`, `strftime_now`, `break` and
    `continue`, and `generation`, which marks the words of the assistant and shows nothing itself.
    """
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> nodes.Node:
            scope = nodes.Scope(lineno=next(parser.stream).lineno)
            scope.body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return scope

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.filters["tojson"] = lambda value, **options: json.dumps(
        value, ensure_ascii=False, **options
    )
    return environment.from_string(template)


def disarm(value: Any, pattern: re.Pattern[str], literals: list[str]) -> Any:
    """Replace special-token look-alikes by numbered stand-ins, and remember them."""
    if isinstance(value, dict):
        return {key: disarm(item, pattern, literals) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [disarm(item, pattern, literals) for item in value]
    if not isinstance(value, str):
        return value

    def stash(match: re.Match[str]) -> str:
        literals.append(match.group())
        return f"{_STAND_IN}{len(literals) - 1}{_STAND_IN}"

    return re.sub(f"{_STAND_IN}|{pattern.pattern}", stash, value)


def rearm(text: str, literals: list[str]) -> str:
    """Put the text back that `disarm` replaced."""
    return re.sub(
        f"{_STAND_IN}(\\d+){_STAND_IN}", lambda match: literals[int(match.group(1))], text
    )
