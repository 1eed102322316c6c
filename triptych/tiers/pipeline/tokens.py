"""Count what was used: the upstream's own count where it gives one, else a marked estimate."""

from __future__ import annotations

from typing import Any

from triptych.tiers.providers.base import Completion
from triptych.tiers.rules import prompts
from triptych.tiers.rules.query import Query, Trace, Usage

_CHARACTERS_PER_TOKEN = 4
_MOST_TOKENS = 2**31


def note_completion(completion: Completion, trace: Trace, query: Query) -> None:
    """Take usage, model, revision and finish from a whole answer; estimate what is missing."""
    body = completion.body
    trace.revision = completion.revision or trace.revision
    trace.model = str(body.get("model") or trace.model)
    choices = body["choices"]
    trace.finish_reason = str(choices[0].get("finish_reason") or "")
    if (counted := _counted(body.get("usage"))) is not None:
        trace.usage = counted
        return
    characters = sum(
        len(str((choice.get("message") or choice).get("content") or choice.get("text") or ""))
        for choice in choices
    )
    estimate(trace, query, characters)
    body["usage"] = {
        "prompt_tokens": trace.usage.input_tokens,
        "completion_tokens": trace.usage.output_tokens,
        "total_tokens": trace.usage.input_tokens + trace.usage.output_tokens,
    }
    completion.raw = None


def note_chunk(chunk: dict[str, Any], trace: Trace) -> int:
    """Take usage, model and finish from a chunk; return how many characters it adds."""
    usage = chunk.get("usage")
    if usage is not None and (counted := _counted(usage)) is not None:
        trace.usage = counted
    choices = chunk.get("choices")
    if not choices:
        return 0
    choice = choices[0]
    if finish := choice.get("finish_reason"):
        trace.finish_reason = finish
        trace.model = str(chunk.get("model") or trace.model)
        trace.revision = str(chunk.get("system_fingerprint") or trace.revision)
    delta = choice.get("delta")
    text = delta.get("content") if delta is not None else choice.get("text")
    return len(text) if text else 0


def _counted(usage: Any) -> Usage | None:
    """Read an upstream's count; None when it is no count of tokens."""
    if not isinstance(usage, dict):
        return None
    asked, answered = usage.get("prompt_tokens"), usage.get("completion_tokens") or 0
    if type(asked) is not int or type(answered) is not int:
        return None
    if not (0 <= asked < _MOST_TOKENS and 0 <= answered < _MOST_TOKENS):
        return None
    return Usage(asked, answered, "provider")


def estimate(trace: Trace, query: Query, characters: int) -> None:
    """Count a quarter of the characters where no upstream counted, and mark it."""
    if trace.usage.source == "provider":
        return
    trace.usage = Usage(
        sum(prompts.estimate_tokens(message) for message in query.messages),
        -(-characters // _CHARACTERS_PER_TOKEN),
        "estimated",
    )


def expected(query: Query, default_output_tokens: int) -> Usage:
    """Say the most that a question may use, before it is asked."""
    params = query.params
    most = params.get("max_tokens") or params.get("max_completion_tokens") or default_output_tokens
    return Usage(
        sum(prompts.estimate_tokens(message) for message in query.messages),
        int(most) * int(params.get("n") or 1),
        "estimated",
    )
