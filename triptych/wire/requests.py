"""What a model server accepts: OpenAI's requests and the originals' /api/generate, checked.

Types are strict and every number has its range; a mistake is reported with the field, the range
and, for a misspelt field, the nearest name. `triptych.wire.reading` reads what the gateway reads
alike. A length limit always counts new tokens.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from triptych.wire import fields, reading
from triptych.wire.ranges import RANGES, in_words

MAX_STOPS = 16
MAX_PROMPTS = 64

Temperature = Annotated[float, RANGES["temperature"].field()]
TopP = Annotated[float, RANGES["top_p"].field()]
TopK = Annotated[int, RANGES["top_k"].field()]
RepetitionPenalty = Annotated[float, RANGES["repetition_penalty"].field()]
NewTokens = Annotated[int, RANGES["max_tokens"].field()]
TopLogprobs = Annotated[int, RANGES["top_logprobs"].field()]
Stop = str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None
Prompts = Annotated[list[str] | list[list[int]], Field(min_length=1, max_length=MAX_PROMPTS)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", populate_by_name=True)


class _Lenient(BaseModel):
    """OpenAI's shapes: null is absent, and what is unknown here changes nothing."""

    model_config = ConfigDict(strict=True, extra="ignore", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _given(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        try:
            return reading.given(body, cls.known())
        except reading.FieldFault as fault:
            raise _fault(fault) from fault

    @classmethod
    def known(cls) -> Collection[str]:
        """Return the names that a misspelt field is compared with."""
        return ()


def _fault(fault: reading.FieldFault) -> PydanticCustomError:
    about = {"field": fault.field, "sentence": str(fault)}
    return PydanticCustomError("field_fault", "{sentence}", about)


class StreamOptions(_Lenient):
    """What a stream tells besides the text."""

    include_usage: bool = False
    include_obfuscation: bool = False


class JsonSchema(_Lenient):
    """A schema the answer must follow."""

    name: str = "answer"
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")] = {}
    strict: bool | None = None


class ResponseFormat(_Lenient):
    """Whether the answer is free text or JSON."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None


class _Sampled(_Lenient):
    """The fields chat and plain completions share."""

    model: str | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: Annotated[float, RANGES["min_p"].field()] | None = None
    repetition_penalty: RepetitionPenalty | None = None
    frequency_penalty: Annotated[float, RANGES["frequency_penalty"].field()] | None = None
    presence_penalty: Annotated[float, RANGES["presence_penalty"].field()] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    stop: Stop = None
    seed: Annotated[int, RANGES["seed"].field()] | None = None
    n: Annotated[int, RANGES["n"].field()] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    adapter: str | None = None
    ignore_eos: bool = False
    # Accepted because clients send them; they change nothing here.
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class ChatMessage(_Lenient):
    """One turn of a chat, as an SDK received it or as a client wrote it."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any] | str] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None


def _read_messages(given: Any) -> Any:
    try:
        return reading.messages(given)
    except reading.FieldFault as fault:
        raise _fault(fault) from fault


Messages = Annotated[list[ChatMessage], BeforeValidator(_read_messages)]


class ChatRequest(_Sampled):
    """The body of `POST /v1/chat/completions`."""

    messages: Messages
    max_tokens: NewTokens | None = None
    max_completion_tokens: NewTokens | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool = False
    top_logprobs: TopLogprobs | None = None

    @classmethod
    def known(cls) -> Collection[str]:
        """Return OpenAI's fields and those of model servers."""
        return fields.CHAT


class CompletionRequest(_Sampled):
    """The body of `POST /v1/completions`; a prompt is text or token ids, or a list of either."""

    prompt: str | list[int] | Prompts
    max_tokens: Annotated[int, Field(ge=0, le=RANGES["max_tokens"].high)] | None = None
    logprobs: TopLogprobs | None = None
    echo: bool = False
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    suffix: None = None

    @classmethod
    def known(cls) -> Collection[str]:
        """Return OpenAI's fields and those of model servers."""
        return fields.TEXT


class EmbeddingsRequest(_Lenient):
    """The body of `POST /v1/embeddings`: a text or token ids, or a list of either."""

    model: str | None = None
    input: Annotated[str, Field(min_length=1)] | Annotated[list[int], Field(min_length=1)] | Prompts
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None

    @classmethod
    def known(cls) -> Collection[str]:
        """Return OpenAI's fields."""
        return fields.OPENAI_EMBEDDINGS


class TokenizeRequest(_Strict):
    """The body of `POST /tokenize`, in vLLM's shape: a prompt or a chat."""

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None


class GenerateParams(_Strict):
    """The parameters of `POST /api/generate`, in the words of both originals."""

    max_new_tokens: Annotated[
        NewTokens | None,
        Field(validation_alias=AliasChoices("max_new_tokens", "max_length", "max_tokens")),
    ] = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    repetition_penalty: RepetitionPenalty | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: Stop = None
    return_full_text: Literal[False] | None = None
    context: str | dict[str, Any] | None = None
    abstraction_context: str | dict[str, Any] | None = None
    conversation_history: str | list[ChatMessage] | None = None


class GenerateBody(_Strict):
    """The body of `POST /api/generate`: `prompt` with `params`, or `inputs` with `parameters`."""

    prompt: Annotated[str, Field(min_length=1, validation_alias=AliasChoices("prompt", "inputs"))]
    params: Annotated[
        GenerateParams, Field(validation_alias=AliasChoices("params", "parameters"))
    ] = GenerateParams()


class GenerateAnswer(BaseModel):
    """The answer of `POST /api/generate`."""

    generated_text: str
    model_version: str
    generation_time: float
    model: str
    finish_reason: str
    usage: dict[str, Any]
    context_applied: bool = False
    abstraction_applied: bool = False
    history_dropped: int = 0


def fault_messages(
    faults: Iterable[Mapping[str, Any]], model: type[BaseModel]
) -> list[tuple[str, str]]:
    """Turn pydantic's faults into (field, sentence) pairs a person can act on."""
    known_fields = _fields(model)
    told: dict[str, str] = {}
    for fault in faults:
        if fault["type"] == "field_fault":
            told.setdefault(fault["ctx"]["field"], fault["ctx"]["sentence"])
            continue
        path = [str(part) for part in fault["loc"] if part != "body"]
        known = [part for part in path if part in known_fields or part.isdigit()]
        field = ".".join(known if fault["type"] != "extra_forbidden" else path) or "body"
        got = f", got {_short(fault.get('input'))}"
        if fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(path[-1], known_fields, n=1)
            sentence = f"{field} is not a known field"
            sentence += f"; did you mean {near[0]}?" if near else ""
        elif fault["type"] == "missing":
            sentence = f"{field} is required"
        elif fault.get("ctx") and known and (limits := known_fields.get(known[-1])):
            sentence = f"{field} must be {limits}{got}"
        else:
            sentence = f"{field}: {fault['msg']}{got}"
        told.setdefault(field, sentence)
    return list(told.items())


@cache
def _fields(model: type[BaseModel]) -> dict[str, str]:
    """Map each field name of a model, and of the models in it, to its range in words."""
    schema = model.model_json_schema()
    found: dict[str, str] = {}
    for part in (schema, *schema.get("$defs", {}).values()):
        for name, described in part.get("properties", {}).items():
            found[name] = _range(described)
    for part in _models(model):
        for name, field in part.model_fields.items():
            found.setdefault(name, "")
            if isinstance(field.validation_alias, AliasChoices):
                for alias in field.validation_alias.choices:
                    found[str(alias)] = found.get(str(alias)) or found[name]
    return found


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [
        field.annotation
        for field in model.model_fields.values()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    ]
    return [model, *inner]


def _range(described: Mapping[str, Any]) -> str:
    for option in (described, *described.get("anyOf", ())):
        names = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        if limits := in_words(*map(option.get, names)):
            return limits
        for key, words in (("minLength", "character"), ("minItems", "entry")):
            if key in option:
                return f"at least {option[key]} {words} long"
        if "maxItems" in option:
            return f"at most {option['maxItems']} entries"
    return ""


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
