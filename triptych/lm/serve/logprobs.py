"""Log-probabilities in the shapes of OpenAI's chats and plain completions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from triptych.lm.generate.engine import Alternative, Token
from triptych.wire import openai


def logprobs_shape(kind: openai.Kind, tokens: Sequence[Token]) -> openai.Shape:
    """Build the log-probabilities of a chat choice, or of a plain completion's."""
    if kind == "chat":
        return {
            "content": [
                {**_entry(token), "top_logprobs": [_entry(other) for other in token.alternatives]}
                for token in tokens
            ],
            "refusal": None,
        }
    offsets, offset = [], 0
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    names = [_names(token) for token in tokens]
    return {
        "tokens": [
            named.get(token.token_id, _key(token))
            for token, named in zip(tokens, names, strict=True)
        ],
        "token_logprobs": [_number(token.logprob) for token in tokens],
        "top_logprobs": [
            {named.get(other.token_id, _key(other)): other.logprob for other in token.alternatives}
            for token, named in zip(tokens, names, strict=True)
        ],
        "text_offset": offsets,
    }


def _names(token: Token) -> dict[int, str]:
    """Name those of the tokens at one place that share their text with another by their ids."""
    by_text: dict[str, set[int]] = {}
    for each in (token, *token.alternatives):
        by_text.setdefault(_key(each), set()).add(each.token_id)
    return {
        token_id: f"token_id:{token_id}"
        for ids in by_text.values()
        if len(ids) > 1
        for token_id in ids
    }


def _key(token: Alternative) -> str:
    """Show a token as a text; part of a character as its bytes, as OpenAI does."""
    try:
        return token.bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)


def _entry(token: Any) -> openai.Shape:
    return {
        "token": token.text,
        "logprob": _number(token.logprob),
        "bytes": list(token.bytes),
    }


def _number(logprob: float) -> float | None:
    return None if math.isnan(logprob) else logprob
