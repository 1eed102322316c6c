"""The messages sent to llama.cpp, and what its answers mean.

The engine (`llama_cpp`) decides when a request runs; this file builds the message for it and
turns the messages that come back into chunks. No state lives here beyond one answer.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from triptych.errors import GenerationError
from triptych.lm.generate.detokenize import TextStream
from triptych.lm.generate.engine import (
    Alternative,
    Chunk,
    Emit,
    FinishReason,
    GenerateRequest,
    Token,
)
from triptych.lm.generate.grammar.json_schema import COMPACT, checked_schema

#: The order in which the filters act, the same in every engine.
SAMPLERS = ["penalties", "temperature", "top_k", "top_p", "min_p"]

#: Taking the largest needs no probabilities, which for a large vocabulary cost as much as a layer.
GREEDY_SAMPLERS = ["penalties", "top_k"]


def completion_body(
    request: GenerateRequest,
    ids: Sequence[int],
    *,
    new_tokens: int,
    context_length: int,
    adapters: Sequence[str] = (),
) -> bytes:
    """Build the message that asks llama.cpp for one answer.

    Raises: GenerationError for a schema it cannot follow.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "prompt": ids,
        "max_tokens": new_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_prompt": not request.reread,
        # A message per piece of the prompt: cancelling need not wait for its end, and what was
        # cached is known even of an answer that is cut short.
        "return_progress": True,
        "samplers": SAMPLERS if sampling.temperature else GREEDY_SAMPLERS,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k if sampling.temperature else 1,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": context_length,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": sampling.logit_bias,
        "seed": fold_seed(sampling.seed),
        "ignore_eos": sampling.ignore_eos,
    }
    if sampling.logprobs is not None:
        body["logprobs"] = body["n_probs"] = max(sampling.logprobs, 1)
        body["verbose"] = True  # each message then says how many tokens there are by now
    if request.json_schema is not None:
        # llama.cpp drops a schema it cannot read without a word, so it is checked here.
        body["json_schema"] = {**checked_schema(request.json_schema), "x-guidance": COMPACT}
    if adapters:
        body["lora"] = lora_scales(request.adapter, adapters)
    return orjson.dumps(body)


def lora_scales(adapter: str | None, adapters: Sequence[str]) -> list[dict[str, Any]]:
    """Return the scale of every loaded adapter, that of the one which acts being 1.

    llama.cpp keeps the scale it had for one that is left out.
    Source: https://github.com/ggml-org/llama.cpp/issues/28674
    """
    return [{"id": index, "scale": float(name == adapter)} for index, name in enumerate(adapters)]


def forced_token_body(
    prefix: Sequence[int],
    token: int,
    n_probs: int,
    lora: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    """Build the message that makes llama.cpp take one token and report its probability.

    The bias acts on what is taken, not on what is reported.
    """
    return orjson.dumps(
        {
            "prompt": prefix,
            "max_tokens": 1,
            "temperature": 0,
            "logit_bias": [[token, 1e9]],
            "logprobs": n_probs,
            "n_probs": n_probs,
            "cache_prompt": True,
            **({"lora": lora} if lora else {}),
        }
    )


class Gap(NamedTuple):
    """Tokens that llama.cpp did not report: how many, and what they spell.

    The bytes include those of the token that completes the character; empty: it never came.
    """

    tokens: int
    spelled: bytes


class AnswerReader:
    """Turn llama.cpp's messages for one answer into chunks."""

    def __init__(self, request: GenerateRequest, emit: Emit, input_tokens: int) -> None:
        self._emit = emit
        self._alternatives = request.sampling.logprobs
        # llama.cpp overlooks a stop string that follows a broken character, so this is ours.
        self._stops = TextStream(request.sampling.stop) if request.sampling.stop else None
        self._reason: str | None = None
        self._input_tokens = input_tokens
        self._output_tokens = 0
        self._cached_tokens = 0
        self._fault: GenerationError | None = None
        self._seen_tokens = 0
        self._ending: Mapping[str, Any] | None = None
        """The entry of a token without text: the end token, unless another one follows."""
        self._ended: FinishReason | None = None
        self.late: list[Mapping[str, Any] | Gap] = []
        """From the first token on that was not reported alone: they follow at the end."""
        self.ids: list[int] = []
        """The tokens that were passed on."""
        self.cancelled = False
        self.finished = False

    def take(self, message: bytes) -> bool:
        """Read one message; True tells llama.cpp to stop."""
        if self.cancelled:
            return True
        shape = orjson.loads(message)
        choices = shape.get("choices")
        if choices is None:
            self._fault = fault_of(shape)
            return True
        if "prompt_progress" in shape:
            self._cached_tokens = shape["prompt_progress"]["cache"]
            return False
        usage = shape.get("usage")
        for choice in choices:
            self._reason = choice["finish_reason"] or self._reason
            if choice["text"] or choice["logprobs"]:
                self._output_tokens += usage is None
                total = shape.get("__verbose", {}).get("tokens_predicted", 0)
                self._pass_on(choice["text"], self._entries(choice, total))
                if self._stops is not None and self._stops.stopped:
                    self._close("stop")
                    return True
        if usage is not None:
            self._input_tokens = usage["prompt_tokens"]
            self._output_tokens = usage["completion_tokens"]
            if self._reason == "length":
                rest: list[Mapping[str, Any]] = []
                self._place_ending(rest)
                self._pass_on("", rest)
                if self._alternatives is not None and self._output_tokens > self._seen_tokens:
                    self.late.append(Gap(self._output_tokens - self._seen_tokens, b""))
                self._close("length")
            elif self._reason is not None:
                # The end token is no part of the answer.
                self._output_tokens -= 1
                self._close("stop")
        return False

    def _entries(self, choice: Mapping[str, Any], total: int) -> list[Mapping[str, Any]]:
        """Return the entries to pass on now; those behind a gap wait in `late`."""
        if self._alternatives is None or not choice["logprobs"]:
            return []
        found: list[Mapping[str, Any]] = []
        self._place_ending(found)
        for entry in choice["logprobs"]["content"]:
            missing = total - self._seen_tokens - 1
            if missing > 0:
                # Parts of a character are not reported: their bytes stand before the last one's.
                self.late.append(Gap(missing, bytes(entry["bytes"])))
            self._seen_tokens += 1 + max(0, missing)
            self._ending = entry
            if choice["text"]:
                self._place_ending(found)
        return found

    def _place_ending(self, found: list[Mapping[str, Any]]) -> None:
        """Put the entry that waits with those to pass on, or behind the late ones."""
        if self._ending is not None:
            (self.late if self.late else found).append(self._ending)
            self._ending = None

    def _close(self, reason: FinishReason) -> None:
        """End the answer; where tokens are late, `end` does."""
        if self.late:
            self._ended = reason
        else:
            self.finish(reason)

    def add_late(self, tokens: Sequence[Token]) -> None:
        """Emit the tokens that were late."""
        self.late = []
        self._emit(
            Chunk(
                tokens=tuple(tokens),
                input_tokens=self._input_tokens,
                output_tokens=self._output_tokens,
            )
        )

    def end(self) -> None:
        """Close the answer after llama.cpp has returned, whatever it left unsaid."""
        if self.finished:
            return
        if self.cancelled:
            self.finish("cancelled")
        elif self._ended is not None:
            self.finish(self._ended)
        else:
            fault = self._fault or GenerationError(
                "llama.cpp ended an answer without a reason", code="model_failed"
            )
            self.finish("error", fault)

    def finish(self, reason: FinishReason, fault: GenerationError | None = None) -> None:
        """Emit the last chunk."""
        self.finished = True
        self._emit(
            Chunk(
                text="" if self._stops is None else self._stops.flush(),
                finish_reason=reason,
                error=fault,
                input_tokens=self._input_tokens,
                output_tokens=self._output_tokens,
                cached_tokens=self._cached_tokens,
            )
        )

    def _pass_on(self, text: str, entries: Sequence[Mapping[str, Any]]) -> None:
        if self._stops is not None:
            text = self._stops.push(text.encode())
        tokens = tuple(token_of(entry, self._alternatives or 0) for entry in entries)
        self.ids += [token.token_id for token in tokens]
        self._emit(
            Chunk(
                text=text,
                tokens=tokens,
                input_tokens=self._input_tokens,
                output_tokens=self._output_tokens,
            )
        )


def fold_seed(seed: int | None) -> int:
    """Fold a 63-bit seed to the 32 bits llama.cpp takes; a new seed where none is given."""
    if seed is None:
        return secrets.randbelow(2**32 - 1)
    # The largest value means "random" to llama.cpp.
    return (seed ^ seed >> 32) % (2**32 - 1)


def fault_of(shape: Mapping[str, Any]) -> GenerationError:
    """Translate an error message of llama.cpp."""
    error = shape.get("error", shape)
    message = str(error.get("message", json.dumps(error)))
    code = "context_length" if error.get("type") == "exceed_context_size_error" else None
    return GenerationError(f"llama.cpp refused the request: {message}", code=code)


def token_of(entry: Mapping[str, Any], alternatives: int) -> Token:
    """Read one reported token with its likeliest alternatives."""
    return Token(
        entry["id"],
        bytes(entry["bytes"]),
        entry["logprob"],
        tuple(
            Alternative(other["id"], bytes(other["bytes"]), other["logprob"])
            for other in entry["top_logprobs"][:alternatives]
        ),
    )
