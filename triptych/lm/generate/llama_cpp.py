"""The llama.cpp engine: the default for serving on a CPU. It imports no torch.

llama.cpp decodes many answers in one batch, keeps the longest common prefix of a slot, and
constrains answers to a JSON schema. This file feeds it token ids, made by the model's own
tokenizer, and turns what comes back into chunks. Left out: writing the GGUF file
(`lm.export.gguf`) and choosing the engine (`select_engine`).

Limits of this engine: a seed gives the same answer only while the batch around it is the same,
because the order of floating-point sums changes with it; seeds are folded to 32 bits; tokens are
reported only where log-probabilities are asked for.
"""

from __future__ import annotations

import atexit
import math
import secrets
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from triptych.errors import GenerationError
from triptych.lm.export.gguf import GgufType, read_config
from triptych.lm.export.gguf_folder import read_record
from triptych.lm.export.weights import Weights
from triptych.lm.generate.engine import Emit, EngineInfo, GenerateRequest, Score, Token
from triptych.lm.generate.llama_embedder import LlamaEmbedder
from triptych.lm.generate.llama_gaps import filled
from triptych.lm.generate.llama_messages import (
    AnswerReader,
    completion_body,
    fault_of,
    forced_token_body,
    lora_scales,
    token_of,
)
from triptych.lm.generate.local_engine import LocalEngine, check_adapter
from triptych.lm.generate.native import kept_signal_handlers
from triptych.lm.model.tokenizer import Tokenizer

#: Prompt tokens computed in one go; a cancelled prompt ends after at most this many. More are not
#: read faster, and each takes memory.
BATCH_TOKENS = 128


@dataclass(eq=False, slots=True)
class _Job:
    """One answer on its way: waiting, then running on a thread of its own."""

    request: GenerateRequest
    ids: list[int]
    body: bytes
    reader: AnswerReader
    reserved_tokens: int


@dataclass(frozen=True, kw_only=True)
class LlamaCppOptions:
    """How one model is run by llama.cpp.

    Units: `kv_cache_tokens` are shared by all answers of a batch; 0 takes what fits
    `kv_cache_bytes`, and at least one whole context. `adapters` are GGUF files by name.
    """

    dtype: GgufType = "bf16"
    threads: int = 0
    max_batch: int = 16
    kv_cache_tokens: int = 0
    kv_cache_bytes: int = 32 * 2**20
    prompt_cache_bytes: int = 256 * 2**20
    adapters: Mapping[str, Path] = field(default_factory=dict)


class LlamaCppEngine(LocalEngine):
    """Run one GGUF file for many requests at once."""

    def __init__(
        self,
        folder: Path,
        gguf: Path,
        options: LlamaCppOptions | None = None,
        *,
        model: str = "",
        revision: str = "",
    ) -> None:
        self.options = options or LlamaCppOptions()
        config = read_config(folder)
        given = read_record(folder)
        self._adapters = list(self.options.adapters)
        self._context_length = int(config["max_position_embeddings"])
        self._kv_tokens = _kv_tokens(config, self.options)
        info = EngineInfo(
            engine="llama_cpp",
            model=model or folder.name,
            revision=revision,
            dtype=given.dtype if given else self.options.dtype,
            device="cpu",
            context_length=self._context_length,
            vocab_size=int(config["vocab_size"]),
            parameters=given.parameters if given else Weights(folder).parameters(),
            size_bytes=gguf.stat().st_size,
        )
        # llama.cpp keeps a position for the first token it writes, read again or not.
        super().__init__(
            Tokenizer.load(folder), info, longest_prompt_tokens=self._context_length - 1
        )
        self._socket_folder = tempfile.TemporaryDirectory(prefix="triptych-")
        self._server: Any = self._open(gguf)
        self._gguf = gguf
        self._embedder: LlamaEmbedder | None = None
        self._embedding = threading.Lock()
        self._waiting: deque[_Job] = deque()
        self._running: set[_Job] = set()
        self._free_kv_tokens = self._kv_tokens
        self._threads: list[threading.Thread] = []
        # Threads that are inside llama.cpp when Python ends would take the process down.
        atexit.register(self.close)

    def _open(self, gguf: Path) -> Any:
        import xllamacpp

        options = self.options
        params = xllamacpp.CommonParams()
        params.model.path = str(gguf)
        params.n_ctx = self._kv_tokens
        params.n_parallel = options.max_batch
        # A cache of its own for every answer is faster, where there is memory for all of them.
        params.kv_unified = self._kv_tokens < options.max_batch * self._context_length
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads or -1
        # Ended prompts move here from a shared attention cache. Left there they slow every answer:
        # each step reads the whole of what is used (measured: 150 instead of 230 tokens/s). From
        # caches of their own they need not move, and copying all of them costs each new prompt
        # more than reading it (40 ms to the first token instead of 21).
        params.cache_idle_slots = params.kv_unified
        params.cache_ram_mib = max(1, options.prompt_cache_bytes // 2**20)
        if options.dtype == "f32":
            # Asked for exactness: the half-precision cache and kernel alone cost 1e-2 in nats.
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.fit_params = False
        params.verbosity = 0
        params.lora_init_without_apply = True
        params.lora_adapters = [
            xllamacpp.CommonAdapterLoraInfo(str(path), 0.0) for path in options.adapters.values()
        ]
        # llama.cpp always opens a listener of its own: a socket that only this user can reach,
        # behind a key that no client has.
        params.hostnames, params.port = [self._listener()], 0
        params.api_keys = [secrets.token_hex(16)]
        params.n_threads_http = 1
        params.warmup = False
        with kept_signal_handlers():
            try:
                server = xllamacpp.Server(params)
            except RuntimeError as fault:
                raise GenerationError(
                    f"llama.cpp cannot load {gguf}",
                    hint="delete the file, it is written again; or use `--engine torch`",
                    code="load",
                ) from fault
        # One step warms the caches, and proves that the decoding loop runs: a server that is
        # closed before it does would wait for it forever.
        body = forced_token_body([0], 0, 1, lora_scales(None, self._adapters))
        server.handle_completions(body, lambda _: False)
        return server

    def _listener(self) -> str:
        """Return where llama.cpp's unused listener goes: a file, or loopback at a free port.

        A confined process may be unable to make local sockets, and the path of one is limited
        to about a hundred bytes.
        """
        path = f"{self._socket_folder.name}/unused.sock"
        try:
            with socket.socket(socket.AF_UNIX) as trial:
                trial.bind(path)
        except OSError:
            return "127.0.0.1"
        Path(path).unlink()
        return path

    def start(self, request: GenerateRequest, emit: Emit) -> None:
        """Begin an answer and return at once; `emit` receives every chunk."""
        ids = self._prompt_ids(request)
        check_adapter(request.adapter, self._adapters)
        new_tokens = min(request.sampling.max_new_tokens, self._context_length - len(ids))
        body = completion_body(
            request,
            ids,
            new_tokens=new_tokens,
            context_length=self._context_length,
            adapters=self._adapters,
        )
        reader = AnswerReader(request, emit, len(ids))
        job = _Job(request, ids, body, reader, len(ids) + new_tokens)
        with self._changed:
            self._check_open()
            self._waiting.append(job)
            busy = len(self._running) + len(self._waiting)
            if len(self._threads) < min(busy, self.options.max_batch):
                thread = threading.Thread(target=self._work, name="llama.cpp", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()

    def cancel(self, request_id: str) -> bool:
        """End a running or waiting answer within one step; False where none has that id."""
        with self._changed:
            for job in self._waiting:
                if job.request.request_id == request_id:
                    self._waiting.remove(job)
                    break
            else:
                for job in self._running:
                    if job.request.request_id == request_id:
                        job.reader.cancelled = True
                        return True
                return False
        job.reader.finish("cancelled")
        return True

    def close(self) -> None:
        """Cancel what runs, free the memory; further calls raise."""
        atexit.unregister(self.close)
        with self._changed:
            if self._closed:
                return
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
            for job in self._running:
                job.reader.cancelled = True
            self._changed.notify_all()
        for job in waiting:
            job.reader.finish("cancelled")
        for thread in self._threads:
            thread.join()
        with kept_signal_handlers():
            self._server = None
        with self._embedding:
            if self._embedder is not None:
                self._embedder.close()
        self._socket_folder.cleanup()

    def score(
        self, text: str | Sequence[int], *, alternatives: int = 0, adapter: str | None = None
    ) -> Score:
        """Return the log-probability of each token of a text, with the likeliest alternatives.

        One step per token: llama.cpp reports the probability of the token it takes, so each
        true token is forced in turn; the shared prefix is not computed again.
        """
        self._check_open()
        check_adapter(adapter, self._adapters)
        lora = lora_scales(adapter, self._adapters)
        ids = self._text_ids(text)
        tokens = [Token(ids[0], self._detokenizer.bytes_of(ids[0]), math.nan)]
        for position in range(1, len(ids)):
            tokens.append(self._score_one(ids[:position], ids[position], alternatives, lora))
        return self._score_of(tokens)

    def embed(self, ids: Sequence[int]) -> list[float]:
        """Return the average of the last hidden states; see `Engine.embed`."""
        ids = self._text_ids(ids)
        with self._embedding:
            self._check_open()
            if self._embedder is None:
                self._embedder = LlamaEmbedder(
                    self._gguf,
                    context_length=self._context_length,
                    threads=self.options.threads,
                    listener="127.0.0.1",
                    exact=self.options.dtype == "f32",
                )
            return self._embedder.embed(ids)

    def _score_one(
        self,
        prefix: list[int],
        target: int,
        alternatives: int,
        lora: Sequence[Mapping[str, Any]],
    ) -> Token:
        entry = self._forced(prefix, target, max(alternatives, 1), lora)
        if entry is None:
            # A token that is part of a character is not reported when taken; read it from the
            # whole distribution instead, reported with a token that stands alone.
            entry = self._forced(prefix, self._plain_token, self._info.vocab_size, lora)
            if entry is None:
                raise GenerationError(
                    "llama.cpp did not report a token's log-probability", code="model_failed"
                )
            listed = entry["top_logprobs"]
            entry = next(other for other in listed if other["id"] == target)
            entry["top_logprobs"] = listed
        return token_of(entry, alternatives)

    def _forced(
        self, prefix: list[int], token: int, n_probs: int, lora: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any] | None:
        messages: list[bytes] = []
        body = forced_token_body(prefix, token, n_probs, lora)
        self._server.handle_completions(body, messages.append)
        answer = orjson.loads(messages[0])
        if "choices" not in answer:
            raise fault_of(answer)
        logprobs = answer["choices"][0]["logprobs"]
        return logprobs["content"][0] if logprobs and logprobs["content"] else None

    @property
    def _plain_token(self) -> int:
        return self.tokenizer.encode("a")[0]

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not self._next_fits():
                    self._changed.wait()
                if self._closed:
                    return
                job = self._waiting.popleft()
                self._running.add(job)
                self._free_kv_tokens -= job.reserved_tokens
            try:
                self._server.handle_completions(job.body, job.reader.take)
                if job.reader.late and not job.reader.cancelled:
                    self._fill(job)
                job.reader.end()
            finally:
                with self._changed:
                    self._running.discard(job)
                    self._free_kv_tokens += job.reserved_tokens
                    self._changed.notify_all()

    def _fill(self, job: _Job) -> None:
        """Emit the tokens that llama.cpp did not report one by one; its slot is free by now."""
        request = job.request
        lora = lora_scales(request.adapter, self._adapters)

        def after(ids: Sequence[int]) -> list[Mapping[str, Any]]:
            size = self._info.vocab_size
            entry = self._forced([*ids], self._plain_token, size, lora)
            if entry is None:
                raise GenerationError(
                    "llama.cpp did not report a token's log-probability", code="model_failed"
                )
            listed: list[Mapping[str, Any]] = entry["top_logprobs"]
            return listed

        ids = [*job.ids, *job.reader.ids]
        alternatives = request.sampling.logprobs or 0
        try:
            tokens = filled(job.reader.late, ids, after, self._detokenizer, alternatives)
        except GenerationError as fault:
            job.reader.finish("error", fault)
            return
        job.reader.add_late(tokens)

    def _next_fits(self) -> bool:
        return bool(self._waiting) and self._waiting[0].reserved_tokens <= self._free_kv_tokens


def _kv_tokens(config: dict[str, Any], options: LlamaCppOptions) -> int:
    context = int(config["max_position_embeddings"])
    if options.kv_cache_tokens:
        return max(options.kv_cache_tokens, context)
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    kv_heads = config.get("num_key_value_heads") or heads
    width = 4 if options.dtype == "f32" else 2
    bytes_per_token = 2 * width * config["num_hidden_layers"] * kv_heads * head_dim
    fits = options.kv_cache_bytes // bytes_per_token
    return int(min(max(fits, context), context * options.max_batch))
