"""One answer while it is being written by an engine on torch: its tokens, text and end."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

from triptych.errors import GenerationError, TriptychError
from triptych.lm.generate.detokenize import Detokenizer, TextStream
from triptych.lm.generate.engine import (
    Alternative,
    Chunk,
    Emit,
    FinishReason,
    GenerateRequest,
    Token,
)
from triptych.lm.generate.grammar.constraint import Constraint
from triptych.lm.generate.packed.decoder import AnswerCache
from triptych.lm.generate.sampling import Sampler


class DecodeState:
    """Follow one request from its prompt to its last chunk."""

    def __init__(
        self,
        request: GenerateRequest,
        ids: list[int],
        emit: Emit,
        context_length: int,
        constraint: Constraint | None = None,
    ) -> None:
        self.request = request
        self.ids = ids
        self.cancelled = False
        self.last_id: int | None = None
        self.tokens = list(ids)
        """The prompt, and what was written."""
        self.cached_tokens = 0
        self.cache: AnswerCache | None = None
        self._emit = emit
        self._constraint = constraint
        self._sampler = Sampler(request.sampling, ids)
        self._text = TextStream(request.sampling.stop)
        self._written = 0
        # The last token of all needs no position: nothing is read after it.
        self._limit = min(request.sampling.max_new_tokens, context_length - len(ids) + 1)

    @property
    def positions(self) -> int:
        """Count the positions a cache of this answer can ever need."""
        return len(self.ids) + self._limit - 1

    def accept(self, logits_V: Tensor, detokenizer: Detokenizer, end_ids: Collection[int]) -> bool:
        """Draw a token, send what can be shown; True when the answer goes on.

        Shape: logits_V [V], of the position after what is written.
        """
        sampling = self.request.sampling
        try:
            token_id = self._draw(logits_V)
        except GenerationError as fault:
            self.fail(fault)
            return False
        if token_id in end_ids and not sampling.ignore_eos:
            self.finish("stop")
            return False
        self._written += 1
        self.last_id = token_id
        self.tokens.append(token_id)
        token = token_of(token_id, detokenizer, logits_V, sampling.logprobs)
        text = self._text.push(detokenizer.text_bytes_of(token_id))
        if self._text.stopped:
            self.finish("stop", text, token)
        elif self._constraint is not None and self._constraint.complete:
            self.finish("stop", text + self._text.flush(), token)
        elif self._written >= self._limit:
            self.finish("length", text + self._text.flush(), token)
        else:
            self._emit(Chunk(text=text, tokens=(token,)))
            return True
        return False

    def _draw(self, logits_V: Tensor) -> int:
        if self._constraint is None:
            return self._sampler.draw(logits_V)
        token_id = self._sampler.draw(self._constraint.apply(logits_V))
        self._constraint.take(token_id)
        return token_id

    def finish(self, reason: FinishReason, text: str = "", token: Token | None = None) -> None:
        """Send the last chunk."""
        if token is None:
            text = self._text.flush()
        self._emit(
            Chunk(
                text=text,
                tokens=() if token is None else (token,),
                finish_reason=reason,
                input_tokens=len(self.ids),
                output_tokens=self._written,
                cached_tokens=self.cached_tokens,
            )
        )

    def fail(self, error: TriptychError) -> None:
        """Send the error as the last chunk."""
        self._emit(
            Chunk(
                finish_reason="error",
                error=error,
                input_tokens=len(self.ids),
                output_tokens=self._written,
                cached_tokens=self.cached_tokens,
            )
        )


def failure_of(error: BaseException) -> GenerationError:
    """Translate what a model's computation raised, memory that ran out apart from all else."""
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    # On a CPU torch raises a plain RuntimeError; only its message tells them apart.
    if memory or "can't allocate memory" in str(error):
        return GenerationError(
            "there is not enough memory for this answer",
            hint="try a shorter prompt or fewer requests at once",
            code="out_of_memory",
            retryable=True,
        )
    return GenerationError(f"the model failed: {error}", code="model_failed")


def token_of(
    token_id: int, detokenizer: Detokenizer, logits_V: Tensor, alternatives: int | None
) -> Token:
    """Describe a token; its probability and the likeliest alternatives only where asked for.

    Shape: logits_V [V], unnormalised, of the position the token stands at.
    """
    if alternatives is None:
        return Token(token_id, detokenizer.bytes_of(token_id), math.nan)
    logprobs_V = logits_V.log_softmax(0)
    likeliest: tuple[Alternative, ...] = ()
    if alternatives:
        values, ids = logprobs_V.topk(alternatives)
        likeliest = tuple(
            Alternative(other, detokenizer.bytes_of(other), value)
            for other, value in zip(ids.tolist(), values.tolist(), strict=True)
        )
    return Token(token_id, detokenizer.bytes_of(token_id), float(logprobs_V[token_id]), likeliest)
