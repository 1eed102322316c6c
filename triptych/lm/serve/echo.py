"""A prompt in its own answer: `echo` of plain completions, which measurements of texts need."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from triptych.lm.generate.engine import Engine, GenerateRequest, Token


@dataclass(frozen=True)
class Prompt:
    """A prompt as it is echoed; `tokens` only where log-probabilities are asked for."""

    text: str = ""
    tokens: tuple[Token, ...] = ()
    input_tokens: int = 0


async def read(engine: Engine, request: GenerateRequest, *, count: bool = False) -> Prompt:
    """Return the echo of a request's prompt, given as text or as token ids.

    With `count`, its tokens are counted although nothing asks for their log-probabilities.

    Raises: GenerationError as the engines do.
    """
    return await asyncio.to_thread(_read, engine, request, count)


def _read(engine: Engine, request: GenerateRequest, count: bool) -> Prompt:
    given, alternatives = request.prompt, request.sampling.logprobs
    text = given if isinstance(given, str) else engine.decode(given)
    if alternatives is not None:
        scored = engine.score(given, alternatives=alternatives, adapter=request.adapter)
        tokens = scored.tokens
        return Prompt(text, tokens, len(tokens))
    if not count:
        return Prompt(text)
    return Prompt(text, (), len(engine.encode(given) if isinstance(given, str) else given))
