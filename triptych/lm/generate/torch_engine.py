"""Our reference engine: exact, with a key-value cache and continuous batches, on torch.

It loads any checkpoint folder the moment it is written. One thread decodes; each of its rounds
reads a piece of one waiting prompt, then one token for every running answer. What an earlier
answer has read of a prompt is not read again.
"""

from __future__ import annotations

import json
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from triptych.errors import CheckpointError
from triptych.lm.generate.decode_state import DecodeState, failure_of, token_of
from triptych.lm.generate.engine import Emit, EngineInfo, GenerateRequest, Score, Token
from triptych.lm.generate.grammar.constraint import SchemaCompiler
from triptych.lm.generate.local_engine import LocalEngine, check_adapter
from triptych.lm.generate.packed.decoder import PREFILL_ROWS, AnswerCache, PackedDecoder
from triptych.lm.generate.packed.prompts import PromptCache
from triptych.lm.model.checkpoint import load_model, load_tokenizer
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import Transformer

Result = TypeVar("Result")
# Rows of logits that exist at once while a text is scored.
_SCORE_ROWS = 64
# Weights up to this size are read faster by one thread than by several that wait for each other.
_ONE_THREAD_BYTES = 8 * 2**20
PROMPT_CACHE_BYTES = 256 * 2**20
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class TorchEngine(LocalEngine):
    """Run one transformer for many requests at once.

    A seed's answer never depends on what else is in the batch.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        dtype: str = "auto",
        device: str = "auto",
        max_batch: int = 16,
        prompt_cache_bytes: int = PROMPT_CACHE_BYTES,
        name: str = "model",
        revision: str = "",
        end_ids: Sequence[int] = (),
        adapters: Mapping[str, Path] | None = None,
    ) -> None:
        device = choose_device(device)
        chosen = choose_dtype(dtype, device)
        parameters = model.config.num_parameters
        info = EngineInfo(
            engine="torch",
            model=name,
            revision=revision,
            dtype=str(chosen).removeprefix("torch."),
            device=device,
            context_length=model.config.max_position_embeddings,
            vocab_size=model.config.vocab_size,
            parameters=parameters,
            size_bytes=parameters * chosen.itemsize,
        )
        super().__init__(tokenizer, info)
        self._schemas = SchemaCompiler(tokenizer, info.vocab_size)
        self._end_ids = {
            *end_ids,
            *model.config.eos_token_ids,
            tokenizer.eos_id,
            tokenizer.boundary_id,
        }
        self._decoder = on_a_passing_thread(lambda: PackedDecoder(model, chosen, device, adapters))
        self._max_batch = max_batch
        self._prompts = PromptCache(prompt_cache_bytes)
        self._waiting: deque[DecodeState] = deque()
        self._active: list[DecodeState] = []
        self._compute = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name=f"torch-engine-{name}", daemon=True)
        self._ready = threading.Event()
        # torch keeps a thread count per thread, and one for threads to come: the latter stays.
        threads = torch.get_num_threads()
        self._thread.start()
        self._ready.wait()
        torch.set_num_threads(threads)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        dtype: str = "auto",
        device: str = "auto",
        max_batch: int = 16,
        prompt_cache_bytes: int = PROMPT_CACHE_BYTES,
        name: str = "",
        revision: str = "",
        adapters: Mapping[str, Path] | None = None,
    ) -> TorchEngine:
        """Load a checkpoint folder.

        Raises: CheckpointError, DataError where the folder is torn or holds another model.
        """
        folder = Path(folder)
        device = choose_device(device)
        chosen = choose_dtype(dtype, device)
        return cls(
            on_a_passing_thread(lambda: load_model(folder, dtype=chosen, device=device)),
            load_tokenizer(folder),
            dtype=dtype,
            device=device,
            max_batch=max_batch,
            prompt_cache_bytes=prompt_cache_bytes,
            name=name or folder.name,
            revision=revision,
            end_ids=_end_ids_of(folder),
            adapters=adapters,
        )

    def start(self, request: GenerateRequest, emit: Emit) -> None:
        """Queue a request; see `Engine.start`."""
        check_adapter(request.adapter, list(self._decoder.adapters))
        constraint = (
            None if request.json_schema is None else self._schemas.compile(request.json_schema)
        )
        ids = self._prompt_ids(request)
        answer = DecodeState(request, ids, emit, self.info.context_length, constraint)
        with self._changed:
            self._check_open()
            self._waiting.append(answer)
            self._changed.notify()

    def cancel(self, request_id: str) -> bool:
        """End an answer within one step; see `Engine.cancel`."""
        with self._changed:
            for answer in (*self._waiting, *self._active):
                if answer.request.request_id == request_id:
                    answer.cancelled = True
                    self._changed.notify()
                    return True
        return False

    def close(self) -> None:
        """Cancel what runs, stop the thread, free the memory."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def score(
        self, text: str | Sequence[int], *, alternatives: int = 0, adapter: str | None = None
    ) -> Score:
        """Return the log-probability of each token; see `Engine.score`."""
        self._check_open()
        check_adapter(adapter, list(self._decoder.adapters))
        return on_a_passing_thread(lambda: self._score(text, alternatives, adapter))

    def embed(self, ids: Sequence[int]) -> list[float]:
        """Return the average of the last hidden states; see `Engine.embed`."""
        self._check_open()
        return on_a_passing_thread(lambda: self._embed(self._text_ids(ids)))

    def _embed(self, ids: list[int]) -> list[float]:
        cache = AnswerCache(self._decoder, len(ids))
        total_C: Tensor | None = None
        for start in range(0, len(ids), PREFILL_ROWS):
            with self._compute:
                hidden_TC = self._decoder.prefill(ids[start : start + PREFILL_ROWS], cache)
            sum_C = hidden_TC.float().sum(0)
            total_C = sum_C if total_C is None else total_C + sum_C
        assert total_C is not None
        vector: list[float] = torch.nn.functional.normalize(total_C, dim=0).tolist()
        return vector

    def _score(self, text: str | Sequence[int], alternatives: int, adapter: str | None) -> Score:
        ids = self._text_ids(text)
        cache = AnswerCache(self._decoder, len(ids), adapter)
        tokens = [Token(ids[0], self._detokenizer.bytes_of(ids[0]), math.nan)]
        for start in range(0, len(ids) - 1, PREFILL_ROWS):
            piece = ids[start : start + PREFILL_ROWS]
            with self._compute:
                hidden_TC = self._decoder.prefill(piece, cache)
            following = ids[start + 1 : start + 1 + len(piece)]
            for row in range(0, len(following), _SCORE_ROWS):
                with self._compute:
                    logits_TV = self._decoder.logits(hidden_TC[row : row + _SCORE_ROWS])
                for token_id, logits_V in zip(following[row:], logits_TV, strict=False):
                    tokens.append(token_of(token_id, self._detokenizer, logits_V, alternatives))
        return self._score_of(tokens)

    def _loop(self) -> None:
        """Decode until closed; what fails ends the answers it was for, and the engine goes on."""
        if self.info.device == "cpu" and self.info.size_bytes <= _ONE_THREAD_BYTES:
            # Asked first, as torch sets a thread's own count when that is first needed.
            torch.get_num_threads()
            torch.set_num_threads(1)
        self._ready.set()
        while self._gather():
            with self._compute:
                self._attempt(self._read_prompt, self._to_read())
                for answer in self._to_write():
                    self._attempt(self._reserve, [answer])
                self._attempt(self._write_tokens, self._to_write())

    def _attempt(
        self, act: Callable[[list[DecodeState]], None], answers: list[DecodeState]
    ) -> None:
        try:
            if answers:
                act(answers)
        except (RuntimeError, MemoryError) as error:
            self._fail(error, answers)

    def _gather(self) -> bool:
        """Wait for work, let waiting requests in and cancelled ones go; False when closed."""
        with self._changed:
            while not (self._active or self._waiting or self._closed):
                self._changed.wait()
            while self._waiting and len(self._active) < self._max_batch:
                self._active.append(self._waiting.popleft())
            every = [*self._active, *self._waiting]
            gone = every if self._closed else [answer for answer in every if answer.cancelled]
            self._active = [answer for answer in self._active if answer not in gone]
            self._waiting = deque(answer for answer in self._waiting if answer not in gone)
            closed = self._closed
        for answer in gone:
            answer.finish("cancelled")
        return not closed

    def _to_read(self) -> list[DecodeState]:
        """Return the first answer whose prompt is not read yet."""
        return [answer for answer in self._active if answer.last_id is None][:1]

    def _to_write(self) -> list[DecodeState]:
        """Return every answer whose prompt is read."""
        return [answer for answer in self._active if answer.last_id is not None]

    def _read_prompt(self, reading: list[DecodeState]) -> None:
        """Read one piece of a prompt."""
        (answer,) = reading
        if answer.cache is None:
            adapter = answer.request.adapter
            answer.cache = AnswerCache(self._decoder, answer.positions, adapter)
            if not answer.request.reread:
                answer.cached_tokens = self._prompts.begin(answer.ids, answer.cache)
        start = answer.cache.length
        hidden_TC = self._decoder.prefill(answer.ids[start : start + PREFILL_ROWS], answer.cache)
        if answer.cache.length == len(answer.ids):
            self._prompts.keep(answer.tokens, answer.cache)
            self._advance(answer, self._decoder.logits(hidden_TC[-1:])[0])

    def _reserve(self, writing: list[DecodeState]) -> None:
        """Let caches grow one by one, so that the one that finds no memory ends alone."""
        for answer in writing:
            if answer.cache is not None:
                answer.cache.reserve(1)

    def _write_tokens(self, writing: list[DecodeState]) -> None:
        """Write one token of every answer."""
        ids = [answer.last_id for answer in writing if answer.last_id is not None]
        caches = [answer.cache for answer in writing if answer.cache is not None]
        for answer, logits_V in zip(writing, self._decoder.step(ids, caches), strict=True):
            self._advance(answer, logits_V)

    def _advance(self, answer: DecodeState, logits_V: Tensor) -> None:
        """Shape: logits_V (V,)."""
        if not answer.accept(logits_V, self._detokenizer, self._end_ids):
            with self._changed:
                self._active.remove(answer)

    def _fail(self, error: BaseException, answers: list[DecodeState]) -> None:
        """End those answers that still run with the reason."""
        with self._changed:
            failed = [answer for answer in answers if answer in self._active]
            self._active = [answer for answer in self._active if answer not in failed]
        for answer in failed:
            answer.fail(failure_of(error))


def on_a_passing_thread(work: Callable[[], Result]) -> Result:
    """Run on a thread that ends afterwards, and with it the threads that helped it.

    Helpers belong to the thread that first asked for them. Where more of them live than there are
    cores, idle ones too, OpenMP lets each sleep at every join of a step instead of looking first:
    `small` then writes 127 tokens/s instead of 169, with nothing else on the machine.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def choose_device(device: str) -> str:
    """Take a GPU for `auto` where there is one."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_dtype(dtype: str, device: str = "cpu") -> torch.dtype:
    """Take bfloat16 for `auto` where the machine multiplies it natively, else float32."""
    if dtype != "auto":
        return _DTYPES[dtype]
    # Without these instructions bfloat16 is emulated, many times slower than float32.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if device != "cpu" or native else torch.float32


def _end_ids_of(folder: Path) -> tuple[int, ...]:
    """Read the end tokens of `generation_config.json`, where a chat model names them."""
    file = folder / "generation_config.json"
    if not file.is_file():
        return ()
    try:
        ends = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
    except ValueError as error:
        raise CheckpointError(f"{file} is not valid JSON: {error}", code="torn") from error
    if ends is None:
        return ()
    return tuple(ends) if isinstance(ends, list) else (int(ends),)
