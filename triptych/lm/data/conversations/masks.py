"""Which tokens of a conversation the assistant wrote, found by rendering prefixes of it.

The template is never parsed: what the conversation gains when an answer is appended is the answer.
Left out: reading files (`dataset`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Any

import numpy as np

from triptych.errors import DataError
from triptych.lm.model.tokenizer import Tokenizer

Message = dict[str, Any]


def encode_conversation(
    tokenizer: Tokenizer, messages: Sequence[Message], prompt: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Encode a conversation and mark the tokens of the assistant's answers, ends included.

    Only marked tokens are targets of a loss; what the user said is context, and so are the first
    `prompt` messages.

    Shape: ids [T] int64, mask [T] bool.
    Raises: DataError when the chat template rewrites earlier turns.
    """
    ids = tokenizer.encode_chat(messages)
    mask = np.zeros(len(ids), dtype=bool)
    specials = set(tokenizer.special_ids.values())
    before_next = _followed(tokenizer, messages)
    for turn, message in enumerate(messages):
        if message["role"] != "assistant" or turn < prompt:
            continue
        before = tokenizer.encode_chat(messages[:turn], add_generation_prompt=True)
        after = tokenizer.encode_chat(messages[: turn + 1])
        start = _common(before, after)
        if _common(after, ids) < len(after) - 1 or start < len(before) - 1:
            raise DataError(
                "the chat template rewrites earlier turns, so answers cannot be marked",
                hint="use a template that only appends, such as the one trained here",
            )
        end = _common(after, ids)
        if turn == len(messages) - 1 and before_next is not None:
            # What ends the whole conversation is no part of an answer that is followed by another.
            end = min(end, _common(after, before_next))
        mask[start : _end(ids, start, end, specials)] = True
    return np.asarray(ids, dtype=np.int64), mask


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Count the tokens two sequences begin with alike."""
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    )


def _followed(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int] | None:
    """Return the conversation with one more question; None where the template refuses that."""
    try:
        return tokenizer.encode_chat([*messages, {"role": "user", "content": "?"}])
    except DataError:
        return None


def _end(ids: Sequence[int], start: int, end: int, specials: Collection[int]) -> int:
    """Return where an answer ends: after its last special token, which stops the model.

    The white space that a template writes between turns comes after that. An answer without a
    special token reaches to the end of its turn.
    """
    return next((at + 1 for at in range(end - 1, start - 1, -1) if ids[at] in specials), end)
