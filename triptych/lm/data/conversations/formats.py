"""Six shapes of a training row, normalised to one: a conversation, and what is trained of it.

    messages                                 the OpenAI API's, `tool` messages too
    conversations                            ShareGPT: `from` and `value`
    instruction, input, output               Alpaca; `system` and `history` too
    prompt, completion                       text, or lists of messages
    prompt, chosen, rejected                 a preference; the prompt may stand in both answers
    prompt, completion, label                an answer that was liked (true) or not (false)

The format is detected from the keys of a row. Left out: tokens (`masks`) and files (`dataset`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from triptych.errors import DataError

Message = dict[str, Any]
Format = Literal["messages", "sharegpt", "alpaca", "completion", "preference", "label"]
ROLES = ("system", "user", "assistant", "tool")

_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bing": "assistant",
    "chatgpt": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}
#: What each format's fields become, for a person to check.
MAPPINGS: Mapping[Format, str] = {
    "messages": "messages as they are; every assistant message is trained",
    "sharegpt": "conversations: from -> role, value -> content; every assistant message is trained",
    "alpaca": "instruction + input -> user, output -> assistant; output is trained",
    "completion": "prompt -> user, completion -> assistant; the completion is trained",
    "preference": "prompt -> user; chosen is preferred to rejected",
    "label": "prompt -> user, completion -> assistant; label says whether it was liked",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row in the one shape.

    `prompt` is the number of leading messages that are context; in a conversation it is 0 and
    every assistant message is trained. `rejected` is set in a preference, `label` in a judgement.
    """

    format: Format
    messages: tuple[Message, ...]
    prompt: int = 0
    rejected: tuple[Message, ...] | None = None
    label: bool | None = None

    @property
    def record_id(self) -> str:
        """Return the hash of the row's content: the same wherever in a file it stands."""
        content = [self.messages, self.prompt, self.rejected, self.label]
        text = json.dumps(content, ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def detect(record: Mapping[str, Any]) -> Format:
    """Name the format of a row by its keys.

    Raises: DataError where it is none of the six.
    """
    keys = set(record)
    if {"chosen", "rejected"} <= keys:
        return "preference"
    if "label" in keys and ({"prompt", "completion"} <= keys or "messages" in keys):
        return "label"
    if "messages" in keys:
        return "messages"
    if "conversations" in keys:
        return "sharegpt"
    if {"instruction", "output"} <= keys:
        return "alpaca"
    if {"prompt", "completion"} <= keys:
        return "completion"
    raise DataError(
        f"fields {', '.join(sorted(map(str, keys))) or 'none'} are no known format",
        hint="use messages; conversations; instruction, output; prompt, completion; "
        "prompt, chosen, rejected; or prompt, completion, label",
    )


def normalise(record: Mapping[str, Any]) -> Row:
    """Return a row in the one shape.

    Raises: DataError with the reason why it cannot be trained on.
    """
    kind = detect(record)
    if kind == "preference":
        return _preference(record)
    if kind == "label":
        return _label(record)
    if kind == "messages":
        return Row(format=kind, messages=_conversation(record["messages"], record))
    if kind == "sharegpt":
        return Row(format=kind, messages=_conversation(_sharegpt(record["conversations"]), record))
    if kind == "alpaca":
        messages = _alpaca(record)
    else:
        messages = [*_turns(record["prompt"], "user"), *_turns(record["completion"], "assistant")]
    prompt = len(messages) - (1 if kind == "alpaca" else len(_turns(record["completion"], "a")))
    return Row(format=kind, messages=_conversation(messages, record), prompt=prompt)


def _preference(record: Mapping[str, Any]) -> Row:
    chosen = _turns(record["chosen"], "assistant")
    rejected = _turns(record["rejected"], "assistant")
    prompt = _turns(record["prompt"], "user") if "prompt" in record else []
    if prompt and chosen[: len(prompt)] == prompt and rejected[: len(prompt)] == prompt:
        prompt = []  # the answers hold the prompt already
    shared = 0
    for left, right in zip(chosen, rejected, strict=False):
        if left != right:
            break
        shared += 1
    chosen, rejected = [*prompt, *chosen], [*prompt, *rejected]
    if chosen == rejected:
        raise DataError("chosen and rejected are the same")
    return Row(
        format="preference",
        messages=_conversation(chosen, record),
        rejected=_conversation(rejected, record),
        prompt=len(prompt) + shared,
    )


def _label(record: Mapping[str, Any]) -> Row:
    label = record["label"]
    if not isinstance(label, bool) and label not in (0, 1):
        raise DataError(f"label is {label!r}, it must be true or false")
    if "messages" in record:
        messages = list(_conversation(record["messages"], record))
        prompt = len(messages) - 1
    else:
        answer = _turns(record["completion"], "assistant")
        messages = [*_turns(record["prompt"], "user"), *answer]
        prompt = len(messages) - len(answer)
    checked = _conversation(messages, record)
    return Row(format="label", messages=checked, prompt=prompt, label=bool(label))


def _turns(value: Any, role: str) -> list[Message]:
    """Read a text, one message, or a list of messages."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, Mapping):
        return [dict(value)]
    if isinstance(value, list):
        return [dict(turn) if isinstance(turn, Mapping) else turn for turn in value]
    raise DataError(f"{value!r:.40} is neither text nor a list of messages")


def _sharegpt(turns: Any) -> list[Message]:
    if not isinstance(turns, list):
        raise DataError("conversations is not a list")
    messages = []
    for turn in turns:
        said = turn.get("from") if isinstance(turn, Mapping) else None
        if said not in _SHAREGPT_ROLES:
            raise DataError(f"a turn is from {said!r}; known: {', '.join(_SHAREGPT_ROLES)}")
        messages.append({"role": _SHAREGPT_ROLES[said], "content": turn.get("value")})
    return messages


def _alpaca(record: Mapping[str, Any]) -> list[Message]:
    messages: list[Message] = []
    if record.get("system"):
        messages.append({"role": "system", "content": record["system"]})
    for pair in record.get("history") or ():
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise DataError("history is not a list of [question, answer]")
        messages += [*_turns(pair[0], "user"), *_turns(pair[1], "assistant")]
    question = "\n\n".join(str(record[k]) for k in ("instruction", "input") if record.get(k))
    return [
        *messages,
        {"role": "user", "content": question},
        {"role": "assistant", "content": record["output"]},
    ]


def _conversation(messages: Any, record: Mapping[str, Any]) -> tuple[Message, ...]:
    """Check the order of roles and that every message has content; the last is an answer."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise DataError("no list of messages")
    turns: list[Message] = []
    if record.get("system") and messages[0].get("role") != "system" and "messages" in record:
        turns.append({"role": "system", "content": str(record["system"])})
    for position, message in enumerate(messages):
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            raise DataError(f"message {position} has no role of {', '.join(ROLES)}")
        content, role = message.get("content"), message["role"]
        calls = bool(message.get("tool_calls"))
        if not isinstance(content, str | list) and not (calls and role == "assistant"):
            raise DataError(f"message {position} ({role}) has no content")
        if role == "assistant" and not calls and not content:
            raise DataError(f"message {position} is an empty answer")
        _check_order(position, role, turns[-1]["role"] if turns else None)
        turns.append({**message, "content": "" if content is None else content})
    if turns[-1]["role"] != "assistant":
        raise DataError(f"the last message is the {turns[-1]['role']}'s, so no answer follows it")
    return tuple(turns)


def _check_order(position: int, role: str, before: str | None) -> None:
    allowed = {
        None: ("system", "user"),
        "system": ("user",),
        "user": ("assistant",),
        "assistant": ("user", "tool"),
        "tool": ("assistant", "tool"),
    }[before]
    if role not in allowed:
        place = "comes first" if before is None else f"follows {before}"
        raise DataError(
            f"broken roles: message {position} ({role}) {place}; {' or '.join(allowed)} must"
        )
