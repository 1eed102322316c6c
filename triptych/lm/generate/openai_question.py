"""A request as the engine `openai` puts it to another server."""

from __future__ import annotations

from typing import Any

from triptych.errors import GenerationError
from triptych.lm.generate.engine import GenerateRequest


def question(request: GenerateRequest, model: str, path: str) -> tuple[str, dict[str, Any]]:
    """Return where a request goes, and its body.

    Raises: GenerationError for tools: the calls of another server are not read here.
    """
    if request.tools:
        raise GenerationError(
            "the openai engine reads no tool calls",
            hint="send the request to the server behind it",
            code="unsupported",
        )
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": request.adapter or model,
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    extensions = {
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "ignore_eos": sampling.ignore_eos,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": {str(token): bias for token, bias in sampling.logit_bias},
        "stop": list(sampling.stop),
    }
    # Servers that do not know an extension see it only where it matters.
    body |= {name: value for name, value in extensions.items() if value}
    if sampling.repetition_penalty != 1.0:
        body["repetition_penalty"] = sampling.repetition_penalty
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if request.json_schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": dict(request.json_schema)},
        }
    if request.messages:
        body["messages"] = [dict(message) for message in request.messages]
        if sampling.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": sampling.logprobs}
        return f"{path}/chat/completions", body
    prompt = request.prompt
    body["prompt"] = prompt if isinstance(prompt, str) else [int(token) for token in prompt]
    if sampling.logprobs is not None:
        body["logprobs"] = sampling.logprobs
    return f"{path}/completions", body
