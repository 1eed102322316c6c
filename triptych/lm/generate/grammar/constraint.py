"""JSON schemas as the set of tokens that may come next, for the engines on torch.

The library is llguidance, which llama.cpp has inside: both engines follow a schema alike, without
free white space. Left out: how a token is drawn (`sampling`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import llguidance
import numpy as np
import torch
from torch import Tensor

from triptych.errors import GenerationError
from triptych.lm.generate.grammar.json_schema import COMPACT, checked_schema
from triptych.lm.model.tokenizer import Tokenizer


class SchemaCompiler:
    """Compile schemas for one vocabulary, which is read when the first schema comes."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._lock = threading.Lock()
        self._vocabulary: llguidance.LLTokenizer | None = None

    def compile(self, schema: Mapping[str, Any]) -> Constraint:
        """Return the constraint of one answer.

        Raises: GenerationError with code `schema` where the schema cannot be followed.
        """
        grammar = llguidance.LLMatcher.grammar_from_json_schema(
            json.dumps({**checked_schema(schema), "x-guidance": COMPACT})
        )
        vocabulary = self._read_vocabulary()
        if fault := llguidance.LLMatcher.validate_grammar(grammar, vocabulary):
            raise GenerationError(f"the JSON schema cannot be followed: {fault}", code="schema")
        return Constraint(
            llguidance.LLMatcher(vocabulary, grammar, log_level=0), self._tokenizer.eos_id
        )

    def _read_vocabulary(self) -> llguidance.LLTokenizer:
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = llguidance.LLTokenizer(
                    self._tokenizer.core.to_str(),
                    n_vocab=self._vocab_size,
                    eos_token=self._tokenizer.eos_id,
                    slices=llguidance.LLTokenizer.json_slices(),
                )
            return self._vocabulary


class Constraint:
    """The tokens that may come next in one answer."""

    def __init__(self, matcher: llguidance.LLMatcher, end_id: int) -> None:
        self._matcher = matcher
        self._end_id = end_id

    @property
    def complete(self) -> bool:
        """Return whether nothing but the end may follow."""
        return self._matcher.is_stopped()

    def apply(self, logits_V: Tensor) -> Tensor:
        """Leave only the tokens that may come next.

        Shape: logits_V (V,) to (V,), minus infinity at the others.
        Raises: GenerationError where the schema turned out too complex.
        """
        self._check()
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, count=len(logits_V), bitorder="little").view(bool)
        mask_V = torch.from_numpy(allowed).to(logits_V.device)
        return logits_V.masked_fill(~mask_V, -torch.inf)

    def take(self, token_id: int) -> None:
        """Go on after a token that was drawn.

        Raises: GenerationError where the schema turned out too complex.
        """
        self._matcher.consume_token(token_id)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GenerationError(
                f"the JSON schema cannot be followed: {self._matcher.get_error()}", code="schema"
            )
