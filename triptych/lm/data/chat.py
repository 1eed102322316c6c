"""Conversations as training data: their shape, and which tokens the assistant wrote.

A conversation is a jsonl line `{"messages": [{"role": ..., "content": ...}, ...]}`, the shape
of the OpenAI API. Left out: how they are batched for fine-tuning.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from triptych.errors import DataError
from triptych.lm.model.tokenizer import Tokenizer

Message = dict[str, Any]
ROLES = ("system", "user", "assistant", "tool")


def read_conversations(file: Path) -> Iterator[list[Message]]:
    """Yield the conversations of a jsonl file.

    Raises: DataError naming the line that is not a conversation.
    """
    file = Path(file)
    if not file.is_file():
        raise DataError(f"no file {file}", hint="give a jsonl file with a `messages` list a line")
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(f"line {number} of {file.name} is not JSON: {error}") from error
            messages = record.get("messages") if isinstance(record, dict) else None
            yield check_messages(messages, f"line {number} of {file.name}")


def check_messages(messages: Any, where: str) -> list[Message]:
    """Return a conversation whose shape is right and that has something to learn from.

    Raises: DataError saying what is wrong, and where.
    """
    hint = 'write {"messages": [{"role": "user", "content": "..."}, ...]}'
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{where} has no list of messages", hint=hint)
    for position, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise DataError(
                f"message {position} in {where} has no role of {', '.join(ROLES)}", hint=hint
            )
        if not isinstance(message.get("content"), str | list):
            raise DataError(f"message {position} in {where} has no content", hint=hint)
    if all(message["role"] != "assistant" for message in messages):
        raise DataError(f"{where} has no answer of the assistant to learn from", hint=hint)
    return messages


def encode_conversation(
    tokenizer: Tokenizer, messages: Sequence[Message]
) -> tuple[np.ndarray, np.ndarray]:
    """Encode a conversation and mark the tokens of the assistant's answers, ends included.

    Only marked tokens are targets of a loss; what the user said is context.

    Shape: ids [T] int64, mask [T] bool.
    Raises: DataError when the chat template rewrites earlier turns.
    """
    ids = tokenizer.encode_chat(messages)
    mask = np.zeros(len(ids), dtype=bool)
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = tokenizer.encode_chat(messages[:turn], add_generation_prompt=True)
        after = tokenizer.encode_chat(messages[: turn + 1])
        start = _common(before, after)
        if _common(after, ids) < len(after) - 1 or start < len(before) - 1:
            raise DataError(
                "the chat template rewrites earlier turns, so answers cannot be marked",
                hint="use a template that only appends, such as the one trained here",
            )
        mask[start : _last(ids[: len(after)], tokenizer.eos_id) + 1] = True
    return np.asarray(ids, dtype=np.int64), mask


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Count the tokens two sequences begin with alike."""
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    )


def _last(ids: Sequence[int], token_id: int) -> int:
    """Find a token from the end; without one, the answer reaches to the end."""
    return next((at for at in range(len(ids) - 1, -1, -1) if ids[at] == token_id), len(ids) - 1)
