"""Count what was used: the upstream's own count where it sends one, else a marked estimate."""

from __future__ import annotations

from typing import Any

from triptych.tiers.rules import prompts
from triptych.tiers.rules.query import Query, Usage

_CHARACTERS_PER_TOKEN = 4
_MOST_TOKENS = 2**31


def counted(usage: Any) -> Usage | None:
    """Read an upstream's count; None when it is not a valid count of tokens."""
    if not isinstance(usage, dict):
        return None
    asked, answered = usage.get("prompt_tokens"), usage.get("completion_tokens") or 0
    if type(asked) is not int or type(answered) is not int:
        return None
    if not (0 <= asked < _MOST_TOKENS and 0 <= answered < _MOST_TOKENS):
        return None
    return Usage(asked, answered, "provider")


def estimated(query: Query, characters: int) -> Usage:
    """Count a quarter of the characters, where no upstream counted."""
    return Usage(
        sum(prompts.estimate_tokens(message) for message in query.messages),
        -(-characters // _CHARACTERS_PER_TOKEN),
        "estimated",
    )


def expected(query: Query, default_output_tokens: int) -> Usage:
    """Return the most that a request may use, before an upstream is called."""
    params = query.params
    most = params.get("max_tokens") or params.get("max_completion_tokens") or default_output_tokens
    return Usage(
        sum(prompts.estimate_tokens(message) for message in query.messages),
        int(most) * int(params.get("n") or 1),
        "estimated",
    )
