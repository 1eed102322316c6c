"""Models outside Llama and Qwen3, run by the transformers library: slower, one answer at a time.

Drawing, text, stops and ends are the reference engine's; only the forward pass is the library's.
No code from a model's repository is ever run.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from triptych.errors import CheckpointError, GenerationError
from triptych.lm.generate.decode_state import DecodeState, failure_of, token_of
from triptych.lm.generate.engine import Emit, EngineInfo, GenerateRequest, Score, Token
from triptych.lm.generate.grammar.constraint import SchemaCompiler
from triptych.lm.generate.local_engine import LocalEngine, check_adapter
from triptych.lm.generate.torch_engine import choose_device, choose_dtype
from triptych.lm.model.tokenizer import Tokenizer


class TransformersEngine(LocalEngine):
    """Run any causal language model that transformers knows, one answer after the other."""

    def __init__(
        self,
        folder: Path,
        *,
        dtype: str = "auto",
        device: str = "auto",
        name: str = "",
        revision: str = "",
    ) -> None:
        self._device = choose_device(device)
        self._model, tokenizer = _load(folder, choose_dtype(dtype, self._device))
        self._model.to(self._device)
        config = self._model.config
        ends = self._model.generation_config.eos_token_id
        self._end_ids = {tokenizer.eos_id, *_as_list(ends), *_as_list(config.eos_token_id)}
        parameters = sum(weight.numel() for weight in self._model.parameters())
        info = EngineInfo(
            engine="transformers",
            model=name or folder.name,
            revision=revision,
            dtype=str(self._model.dtype).removeprefix("torch."),
            device=self._device,
            context_length=int(getattr(config, "max_position_embeddings", 0) or 1024),
            vocab_size=int(config.vocab_size),
            parameters=parameters,
            size_bytes=parameters * self._model.dtype.itemsize,
            note=f"{config.model_type} runs through transformers, one answer at a time",
        )
        super().__init__(tokenizer, info)
        self._schemas = SchemaCompiler(tokenizer, info.vocab_size)
        self._waiting: deque[DecodeState] = deque()
        self._active: DecodeState | None = None
        self._compute = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="transformers-engine", daemon=True)
        self._thread.start()

    def start(self, request: GenerateRequest, emit: Emit) -> None:
        """Queue a request; see `Engine.start`."""
        check_adapter(request.adapter, ())
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
            active = [self._active] if self._active is not None else []
            for answer in (*active, *self._waiting):
                if answer.request.request_id == request_id:
                    answer.cancelled = True
                    return True
        return False

    def close(self) -> None:
        """Cancel what runs, stop the thread, free the memory."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    @torch.inference_mode()
    def score(
        self, text: str | Sequence[int], *, alternatives: int = 0, adapter: str | None = None
    ) -> Score:
        """Return the log-probability of each token; see `Engine.score`."""
        self._check_open()
        check_adapter(adapter, ())
        ids = self._text_ids(text)
        with self._compute:
            logits_TV = self._model(self._tensor(ids)).logits[0].float()
        tokens = [Token(ids[0], self._detokenizer.bytes_of(ids[0]), math.nan)]
        for row, token_id in enumerate(ids[1:]):
            tokens.append(token_of(token_id, self._detokenizer, logits_TV[row], alternatives))
        return self._score_of(tokens)

    def _loop(self) -> None:
        while (answer := self._next()) is not None:
            try:
                with self._compute:
                    self._write(answer)
            except (RuntimeError, MemoryError) as fault:
                answer.fail(failure_of(fault))
        for answer in self._waiting:
            answer.finish("cancelled")

    def _next(self) -> DecodeState | None:
        with self._changed:
            self._active = None
            while not (self._waiting or self._closed):
                self._changed.wait()
            if not self._closed:
                self._active = self._waiting.popleft()
            return self._active

    @torch.inference_mode()
    def _write(self, answer: DecodeState) -> None:
        ids, past = answer.ids, None
        while not (answer.cancelled or self._closed):
            read = self._model(self._tensor(ids), past_key_values=past, use_cache=True)
            past = read.past_key_values
            if not answer.accept(read.logits[0, -1].float(), self._detokenizer, self._end_ids):
                return
            assert answer.last_id is not None
            ids = [answer.last_id]
        answer.finish("cancelled")

    def _tensor(self, ids: Sequence[int]) -> torch.Tensor:
        """Shape: (1, T), a batch of one."""
        return torch.tensor([list(ids)], device=self._device)


def _load(folder: Path, dtype: torch.dtype) -> tuple[Any, Tokenizer]:
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as fault:
        raise GenerationError(
            "this model needs the transformers library",
            hint='pip install "triptych[transformers]"',
            code="unsupported",
        ) from fault
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, trust_remote_code=False, use_safetensors=True
        )
        fast = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as fault:
        raise CheckpointError(
            f"transformers cannot load {folder}: {str(fault).splitlines()[0]}",
            hint="only safetensors weights and models without code of their own are loaded",
        ) from fault
    settings = {
        "bos_token": fast.bos_token,
        "eos_token": fast.eos_token,
        "chat_template": fast.chat_template,
    }
    return model.eval(), Tokenizer(fast.backend_tokenizer, settings)


def _as_list(value: Any) -> list[int]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [int(value)]
