"""Read request bodies into queries: OpenAI's two shapes and the originals' `/api/query`.

`triptych.wire.reading` reads what all servers read alike; here every number has its range. What
the client did not send stays absent, so that 0 stays 0 and no default of ours reaches an upstream.
An unknown field stays: whether it is passed on is a setting of each upstream.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from triptych.errors import InvalidQuery
from triptych.tiers.rules import prompts
from triptych.tiers.rules.query import Message, Query, original_tier
from triptych.wire import fields, lenient_json, reading
from triptych.wire.ranges import RANGES
from triptych.wire.tiers import TIERS

_NOT_PARAMS = frozenset(("model", "messages", "prompt", "stream", "stream_options"))
_TEXTS: Mapping[str, type | tuple[type, ...]] = {
    "stop": (str, list),
    "user": str,
    "metadata": dict,
    "tools": list,
    "response_format": dict,
    "logit_bias": dict,
    "stream_options": dict,
}
_ID = re.compile(r"[\x21-\x7e]{1,64}")


def load(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises: InvalidQuery with status 400.
    """
    try:
        body = lenient_json.loads(raw)
    except ValueError as error:
        raise InvalidQuery(f"the body is not valid JSON: {error}", status=400) from error
    if not isinstance(body, dict):
        raise InvalidQuery("the body must be a JSON object", status=400)
    return body


def chat(body: dict[str, Any], request_id: str, *, system_allowed: bool) -> Query:
    """Read the body of `/v1/chat/completions`."""
    try:
        body = reading.given(body, fields.CHAT)
        messages = reading.messages(body.get("messages"), system_allowed=system_allowed)
    except reading.FieldFault as fault:
        raise InvalidQuery(str(fault), param=fault.field) from fault
    return _query(body, "chat", messages, request_id)


def text(body: dict[str, Any], request_id: str) -> Query:
    """Read the body of `/v1/completions`."""
    try:
        body = reading.given(body, fields.TEXT)
    except reading.FieldFault as fault:
        raise InvalidQuery(str(fault), param=fault.field) from fault
    prompt = body.get("prompt")
    if not isinstance(prompt, str | list) or not prompt:
        _refuse("prompt", "must be a text of at least one character, token ids, or a list of them")
    return _query(body, "text", [{"role": "user", "content": prompt}], request_id)


def _query(body: dict[str, Any], kind: Any, messages: list[Message], request_id: str) -> Query:
    params = {}
    for name, value in body.items():
        if name not in _NOT_PARAMS:
            # without a new token, the log-probabilities of the prompt alone
            if not (name == "max_tokens" and value == 0 and kind == "text" and body.get("echo")):
                _check_param(name, value)
            params[name] = value
    stream = body.get("stream")
    if stream not in (None, True, False):
        _refuse("stream", "must be true or false")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        _refuse("stream_options", "must be an object")
    given = body.get("model")
    model = "base" if given is None else given
    return Query(
        request_id,
        kind,
        messages,
        params,
        model_asked=model,
        stream=bool(stream),
        tier_asked=_tier(model),
        explicit="default" if given is None else "model",
        include_usage=bool(options and options.get("include_usage")),
    )


def _tier(model: Any) -> str:
    """Read the `model` of a request: a tier, `auto`, or a named model."""
    if not isinstance(model, str) or not _is_name(model, 128):
        _refuse("model", "must be a name of at most 128 characters")
    short = model.removeprefix("tier:")
    return short if short in TIERS or short == "auto" else "named"


def _is_name(text: str, longest: int) -> bool:
    """Return whether a text can be a name in a record and a header: no line ends, no zero byte."""
    return 0 < len(text) <= longest and text.isprintable()


def _check_param(name: str, value: Any) -> None:
    limits = RANGES.get(name)
    if limits is not None:
        if not limits.accepts(value):
            _refuse(name, f"must be {limits}, got {str(value)[:40]}")
        return
    kind = _TEXTS.get(name)
    if kind is not None and not isinstance(value, kind):
        _refuse(name, f"must not be a {type(value).__name__}")


def _refuse(field: str, sentence: str) -> NoReturn:
    raise InvalidQuery(f"{field} {sentence}", param=field)


# -- the originals' shape ------------------------------------------------------------------------

_ORIGINAL_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "input": lambda v: isinstance(v, str),
    "user_id": lambda v: isinstance(v, str) and bool(_ID.fullmatch(v)),
    "company_id": lambda v: v is None or (isinstance(v, str) and bool(_ID.fullmatch(v))),
    "use_company_model": lambda v: isinstance(v, bool),
    "use_abstraction": lambda v: isinstance(v, bool),
    "use_existing_models": lambda v: isinstance(v, bool),
    "context": lambda v: isinstance(v, str) and (not v or _is_name(v, 64)),
    "conversation_history": lambda v: isinstance(v, list),
    "conversation_id": lambda v: isinstance(v, str) and bool(_ID.fullmatch(v)),
    "temperature": RANGES["temperature"].accepts,
    "max_new_tokens": RANGES["max_tokens"].accepts,
    "feature": lambda v: isinstance(v, str) and (not v or _is_name(v, 64)),
    "stream": lambda v: isinstance(v, bool),
    "tier": lambda v: v in (*TIERS, "auto"),
}


def original(body: dict[str, Any], request_id: str) -> Query:
    """Read the body of `/api/query`: the originals' QueryContext, camelCase or snake_case."""
    fields: dict[str, Any] = {}
    merged = {k: v for k, v in body.items() if k != "context" or not isinstance(v, dict)}
    if isinstance(body.get("context"), dict):
        merged.update(body["context"])
    for name, value in merged.items():
        snake = re.sub(r"(?<!^)(?=[A-Z])", "_", str(name)).lower()
        check = _ORIGINAL_FIELDS.get(snake)
        if check is None:
            near = difflib.get_close_matches(snake, _ORIGINAL_FIELDS, n=1)
            _refuse(
                str(name)[:64],
                "is not a known field" + (f"; did you mean {near[0]}?" if near else ""),
            )
        if value is None:
            continue
        if not check(value):
            _refuse(str(name), f"has a value that is not allowed: {str(value)[:40]!r}")
        fields[snake] = value
    return _from_original(fields, request_id)


def _from_original(fields: Mapping[str, Any], request_id: str) -> Query:
    history = tuple(turn for turn in fields.get("conversation_history", ()))
    if not all(isinstance(turn, dict) for turn in history):
        _refuse("conversation_history", "must be a list of {role, content}")
    messages = prompts.conversation(fields.get("input", ""), history, system_allowed=False)
    params = {}
    if "temperature" in fields:
        params["temperature"] = fields["temperature"]
    if "max_new_tokens" in fields:
        params["max_tokens"] = fields["max_new_tokens"]
    tier = fields.get("tier") or original_tier(
        bool(fields.get("use_company_model")), bool(fields.get("use_abstraction"))
    )
    return Query(
        request_id,
        "chat",
        messages,
        params,
        model_asked=tier,
        stream=bool(fields.get("stream")),
        tier_asked=tier,
        user_id=fields.get("user_id"),
        company_id=fields.get("company_id"),
        feature=fields.get("feature"),
        conversation_id=fields.get("conversation_id"),
        context_label=fields.get("context", "general"),
        explicit="context",
    )
