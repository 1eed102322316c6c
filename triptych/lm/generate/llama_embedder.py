"""Embeddings by llama.cpp: a second context on the same file, opened when first asked for.

A context of llama.cpp either writes or embeds; the weights themselves are mapped once.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from triptych.errors import GenerationError
from triptych.lm.generate.native import kept_signal_handlers

#: A text is embedded in one step, whose memory grows with its length.
LONGEST_TOKENS = 4096


class LlamaEmbedder:
    """Average the last hidden states over a text, to the length 1."""

    def __init__(
        self, gguf: Path, *, context_length: int, threads: int, listener: str, exact: bool
    ) -> None:
        import xllamacpp

        self._longest_tokens = min(context_length, LONGEST_TOKENS)
        params = xllamacpp.CommonParams()
        params.model.path = str(gguf)
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        params.n_parallel = 1
        params.n_ctx = params.n_batch = params.n_ubatch = self._longest_tokens
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or -1
        if exact:
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.fit_params = params.warmup = False
        params.verbosity = 0
        params.hostnames, params.port = [listener], 0
        params.api_keys = [secrets.token_hex(16)]
        params.n_threads_http = 1
        with kept_signal_handlers():
            try:
                self._server: Any = xllamacpp.Server(params)
            except RuntimeError as fault:
                raise GenerationError(
                    f"llama.cpp cannot load {gguf} for embeddings", code="load"
                ) from fault

    def embed(self, ids: Sequence[int]) -> list[float]:
        """Return the embedding of a text.

        Raises: GenerationError for a text that is too long.
        """
        if len(ids) > self._longest_tokens:
            raise GenerationError(
                f"a text has {len(ids)} tokens; at most {self._longest_tokens} are embedded",
                hint="split it",
                code="context_length",
            )
        answer = orjson.loads(self._server.handle_embeddings(orjson.dumps({"input": [*ids]})))
        if "data" not in answer:
            raise GenerationError(f"llama.cpp refused to embed: {answer}", code="model_failed")
        vector: list[float] = answer["data"][0]["embedding"]
        return vector

    def close(self) -> None:
        """Free the memory."""
        with kept_signal_handlers():
            self._server = None
