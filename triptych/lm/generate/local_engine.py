"""What every engine that runs a model on this machine shares: its prompts, refusals and scores.

An engine adds how it computes: `start`, `score`, `cancel` and `close`. Left out: torch, which
llama.cpp does without, and engines that reach another server (`openai`).
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from triptych.errors import DataError, GenerationError
from triptych.lm.generate.detokenize import Detokenizer
from triptych.lm.generate.engine import Engine, EngineInfo, GenerateRequest, Message, Score, Token
from triptych.lm.model.tokenizer import Tokenizer


class LocalEngine(Engine):
    """Read prompts with a model's own tokenizer and refuse, in one way, what cannot be answered.

    Units: `longest_prompt_tokens` is the longest prompt an answer can begin after, by default the
    whole context: the last token of an answer is never read, so it needs no position.
    """

    def __init__(
        self, tokenizer: Tokenizer, info: EngineInfo, *, longest_prompt_tokens: int | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self._info = replace(info, has_chat_template=tokenizer.chat_template is not None)
        self._longest_prompt_tokens = longest_prompt_tokens or info.context_length
        self._detokenizer = Detokenizer(tokenizer)
        # What the model's own tokenizer puts before every text, such as Llama's begin token.
        self._prefix_ids = list(tokenizer.core.encode("", add_special_tokens=True).ids)
        # Guards `_closed` and the engine's queue; notified when either changes.
        self._changed = threading.Condition()
        self._closed = False

    @property
    def info(self) -> EngineInfo:
        """Return what runs."""
        return self._info

    def encode(
        self, prompt: str | Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """Return the token ids the model would read; an empty text is a new document.

        Raises: GenerationError with code `unsupported` for messages without a chat template.
        """
        if isinstance(prompt, str):
            ids = self._prefix_ids + self.tokenizer.encode(prompt)
            return ids or [self.tokenizer.boundary_id]
        try:
            messages = [dict(message) for message in prompt]
            return self.tokenizer.encode_chat(
                messages, add_generation_prompt=True, tools=tools, continue_answer=True
            )
        except DataError as error:
            raise GenerationError(error.message, hint=error.hint, code="unsupported") from error

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens by their names."""
        return self.tokenizer.decode(
            self._checked(list(ids), self._info.context_length), skip_special_tokens=False
        )

    def _prompt_ids(self, request: GenerateRequest) -> list[int]:
        """Return the checked token ids of a request."""
        if request.messages or isinstance(request.prompt, str):
            ids = self.encode(request.messages or str(request.prompt), tools=request.tools)
        else:
            ids = [int(token) for token in request.prompt]
        biased = [token for token, _ in request.sampling.logit_bias]
        if any(not 0 <= token < self._info.vocab_size for token in biased):
            raise GenerationError(
                f"logit_bias holds a token that is not one of the {self._info.vocab_size}",
                code="token_ids",
            )
        return self._checked(ids, self._longest_prompt_tokens)

    def _text_ids(self, text: str | Sequence[int]) -> list[int]:
        """Return the checked token ids of a text to score, which may fill the whole context."""
        ids = self.encode(text) if isinstance(text, str) else [int(token) for token in text]
        return self._checked(ids, self._info.context_length)

    def _checked(self, ids: list[int], limit: int) -> list[int]:
        if not ids:
            raise GenerationError(
                "the prompt is empty", hint="write at least one token", code="token_ids"
            )
        if wrong := [token for token in ids if not 0 <= token < self._info.vocab_size]:
            raise GenerationError(
                f"token id {wrong[0]} is not in the vocabulary: ids go from 0 to "
                f"{self._info.vocab_size - 1}",
                hint="encode the text with this model's own tokenizer",
                code="token_ids",
            )
        if len(ids) > limit:
            raise GenerationError(
                f"the prompt has {len(ids)} tokens; the model reads at most {limit}",
                hint="shorten the prompt or use a model with a longer context",
                code="context_length",
            )
        return ids

    def _check_open(self) -> None:
        """Refuse work after `close`; hold `_changed` where the answer must still be true after."""
        if self._closed:
            raise GenerationError("the engine is closed", code="closed")

    def _score_of(self, tokens: Sequence[Token]) -> Score:
        """Sum up a scored text, whose first token nothing precedes."""
        scored = tokens[1:]
        return Score(
            tokens=tuple(tokens),
            nats=-sum(token.logprob for token in scored),
            scored_tokens=len(scored),
            text_bytes=sum(
                len(self._detokenizer.text_bytes_of(token.token_id)) for token in scored
            ),
        )


def check_adapter(adapter: str | None, adapters: Sequence[str]) -> None:
    """Refuse an adapter that is not loaded.

    Raises: GenerationError (code `adapter`) with the nearest names.
    """
    if adapter is not None and adapter not in adapters:
        near = difflib.get_close_matches(adapter, adapters, n=3)
        raise GenerationError(
            f"no adapter {adapter!r} is loaded",
            hint=f"did you mean {', '.join(near)}?" if near else "load it with --adapter",
            code="adapter",
        )
