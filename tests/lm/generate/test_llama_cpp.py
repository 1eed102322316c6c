"""llama.cpp behind our engine: exact in float32, batched, cancellable, adapters per request."""

from __future__ import annotations

import json
import math
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from triptych.config.generate import Sampling
from triptych.errors import GenerationError
from triptych.lm.export.gguf import export_gguf
from triptych.lm.export.lora import export_lora
from triptych.lm.generate.engine import Chunk, GenerateRequest
from triptych.lm.generate.llama_cpp import LlamaCppEngine, LlamaCppOptions
from triptych.lm.generate.llama_messages import fold_seed
from triptych.lm.generate.torch_engine import TorchEngine

TEXT = "The quick brown fox jumps; süßer Käse 数字 🙂 and again."


def open_engine(folder: Path, at: Path, **options: Any) -> LlamaCppEngine:
    chosen = LlamaCppOptions(**{"dtype": "f32", "threads": 1, "max_batch": 4, **options})
    gguf = at / f"{folder.name}.{chosen.dtype}.gguf"
    if not gguf.exists():
        export_gguf(folder, gguf, dtype=chosen.dtype)
    return LlamaCppEngine(folder, gguf, chosen)


@pytest.fixture(scope="module")
def engine(
    qwen3_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LlamaCppEngine]:
    running = open_engine(qwen3_folder, tmp_path_factory.mktemp("gguf"))
    yield running
    running.close()


def greedy(prompt: Any = TEXT, **sampling: Any) -> GenerateRequest:
    return GenerateRequest(
        prompt=prompt, sampling=Sampling(**{"temperature": 0, "max_new_tokens": 24, **sampling})
    )


def readable(text: str) -> str:
    """Leave out what is left of broken characters: random weights spell many."""
    return text.replace("\ufffd", "")


def collect(engine: LlamaCppEngine, request: GenerateRequest) -> list[Chunk]:
    return list(engine.stream(request))


def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_greedy_text_and_logprobs_are_those_of_the_torch_engine(
    random_folder: Path, tmp_path: Path
) -> None:
    ours = TorchEngine.load(random_folder, dtype="float32")
    theirs = open_engine(random_folder, tmp_path)
    try:
        for prompt in (TEXT, "def add(a, b):", "Company policy 42", [5, 300, 7]):
            a, b = (engine.generate(greedy(prompt)) for engine in (ours, theirs))
            assert readable(a.text) == readable(b.text)
            assert (a.input_tokens, a.output_tokens) == (b.input_tokens, b.output_tokens)
        a_score, b_score = ours.score(TEXT, alternatives=3), theirs.score(TEXT, alternatives=3)
    finally:
        ours.close()
        theirs.close()
    assert [t.token_id for t in a_score.tokens] == [t.token_id for t in b_score.tokens]
    assert [t.bytes for t in a_score.tokens] == [t.bytes for t in b_score.tokens]
    assert b_score.nats == pytest.approx(a_score.nats, abs=1e-3)
    assert b_score.text_bytes == a_score.text_bytes
    for one, other in zip(a_score.tokens[1:], b_score.tokens[1:], strict=True):
        assert other.logprob == pytest.approx(one.logprob, abs=1e-3)
        assert [t.token_id for t in one.alternatives] == [t.token_id for t in other.alternatives]


def test_every_token_of_a_text_is_scored_also_parts_of_characters(engine: LlamaCppEngine) -> None:
    score = engine.score(TEXT)
    assert b"".join(token.bytes for token in score.tokens).decode() == TEXT
    assert math.isnan(score.tokens[0].logprob)
    assert all(token.logprob < 0 for token in score.tokens[1:])
    assert 0 < score.bits_per_byte < 20


def test_the_loss_of_each_width_is_reported_in_bits_per_byte(
    qwen3_folder: Path, tmp_path: Path, engine: LlamaCppEngine
) -> None:
    exact = engine.score(TEXT).bits_per_byte
    for dtype, limit in (("f16", 0.01), ("bf16", 0.05), ("q8_0", 0.1)):
        narrow = open_engine(qwen3_folder, tmp_path, dtype=dtype)
        try:
            assert abs(narrow.score(TEXT).bits_per_byte - exact) < limit
            assert narrow.info.dtype == dtype
        finally:
            narrow.close()


def test_the_stream_joins_to_the_whole_answer(engine: LlamaCppEngine) -> None:
    chunks = collect(engine, greedy(ignore_eos=True))
    assert "".join(chunk.text for chunk in chunks) == engine.generate(greedy(ignore_eos=True)).text
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    last = chunks[-1]
    assert last.finish_reason == "length" and last.output_tokens == 24


def test_a_shared_prefix_is_not_computed_again(engine: LlamaCppEngine) -> None:
    engine.generate(greedy([9, *range(20, 60), 5]))
    again = engine.generate(greedy([9, *range(20, 60), 6]))
    assert again.cached_tokens >= 40


def test_a_seed_repeats_an_answer(engine: LlamaCppEngine) -> None:
    def ask(seed: int) -> str:
        return engine.generate(greedy(temperature=1.5, seed=seed)).text

    assert ask(11) == ask(11) != ask(12)
    assert len({fold_seed(seed) for seed in (0, 1, 2**32, 2**62 + 7)}) == 4
    assert all(0 <= fold_seed(seed) < 2**32 - 1 for seed in (2**32 - 1, 2**63 - 1))


def test_more_answers_than_places_wait_and_all_end(engine: LlamaCppEngine) -> None:
    ended: dict[str, Chunk] = {}
    requests = [greedy(f"Number {index}", ignore_eos=True) for index in range(20)]
    for request in requests:
        engine.start(
            request,
            lambda chunk, key=request.request_id: (
                ended.__setitem__(key, chunk) if chunk.finish_reason else None
            ),
        )
    wait_until(lambda: len(ended) == 20)
    assert {chunk.output_tokens for chunk in ended.values()} == {24}
    alone = engine.generate(requests[7])
    assert alone.output_tokens == 24


def test_prompts_that_together_overflow_the_cache_all_end(
    qwen3_folder: Path, tmp_path: Path
) -> None:
    """Idle places keep their prompts cached; they give way when the space is needed."""
    narrow = open_engine(qwen3_folder, tmp_path, kv_cache_tokens=512, max_batch=8)
    ended: list[Chunk] = []
    try:
        for index in range(40):
            ids = [3 + (index * 37 + place * (index + 1)) % 450 for place in range(50 + index * 9)]
            request = greedy(ids, max_new_tokens=40, ignore_eos=True)
            narrow.start(
                request, lambda chunk: ended.append(chunk) if chunk.finish_reason else None
            )
        wait_until(lambda: len(ended) == 40)
    finally:
        narrow.close()
    assert {(chunk.finish_reason, chunk.output_tokens) for chunk in ended} == {("length", 40)}


def test_cancelling_ends_running_and_waiting_answers(engine: LlamaCppEngine) -> None:
    reasons: list[str] = []
    requests = [greedy("Go on", max_new_tokens=480, ignore_eos=True) for _ in range(8)]
    for request in requests:
        engine.start(
            request,
            lambda chunk: reasons.append(chunk.finish_reason) if chunk.finish_reason else None,
        )
    cancelled = [engine.cancel(request.request_id) for request in requests]
    assert cancelled == [True] * 8
    wait_until(lambda: len(reasons) == 8)
    assert set(reasons) == {"cancelled"}
    assert not engine.cancel(requests[0].request_id)
    wait_until(lambda: not engine._running)
    assert engine._free_kv_tokens == engine._kv_tokens


def test_leaving_a_stream_early_cancels_it(engine: LlamaCppEngine) -> None:
    for chunk in engine.stream(greedy("Go on", max_new_tokens=480, ignore_eos=True)):
        assert chunk.finish_reason is None
        break
    wait_until(lambda: not engine._running)


def test_stop_strings_are_found_wherever_tokens_meet(engine: LlamaCppEngine) -> None:
    free = engine.generate(greedy(max_new_tokens=60, ignore_eos=True)).text
    for place in range(0, len(free) - 3, 4):
        stop = free[place : place + 3]
        answer = engine.generate(greedy(max_new_tokens=60, ignore_eos=True, stop=(stop,)))
        assert answer.text == free[: free.index(stop)]
        assert answer.finish_reason == "stop"


def test_an_answer_never_outgrows_the_context(engine: LlamaCppEngine) -> None:
    answer = engine.generate(greedy([5] * 500, max_new_tokens=1000, ignore_eos=True))
    assert answer.input_tokens + answer.output_tokens == engine.info.context_length


def test_signal_handlers_survive_the_loading_of_a_model(qwen3_folder: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        thread = threading.Thread(target=lambda: open_engine(qwen3_folder, tmp_path).close())
        thread.start()
        thread.join()
        signal.raise_signal(signal.SIGTERM)
        wait_until(lambda: seen == [signal.SIGTERM])
    finally:
        signal.signal(signal.SIGTERM, before)


def write_adapter(folder: Path, base: Path, seed: int) -> dict[str, torch.Tensor]:
    """Write a PEFT folder of random LoRA weights; give what it adds to each base weight."""
    generator = torch.Generator().manual_seed(seed)
    weights = load_file(base / "model.safetensors")
    tensors, added = {}, {}
    for name, weight in weights.items():
        if not name.endswith(("q_proj.weight", "k_proj.weight", "down_proj.weight")):
            continue
        a = torch.randn(4, weight.shape[1], generator=generator) * 0.3
        b = torch.randn(weight.shape[0], 4, generator=generator) * 0.3
        module = f"base_model.model.{name.removesuffix('.weight')}"
        tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"] = a, b
        added[name] = (8 / 4) * (b @ a)
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    save_file(tensors, folder / "adapter_model.safetensors")
    return added


def test_an_adapter_per_request_equals_the_merged_model(
    random_folder: Path, tmp_path: Path
) -> None:
    adapters, merged = {}, {}
    for seed, name in enumerate(("acme", "zenith")):
        added = write_adapter(tmp_path / name, random_folder, seed)
        adapters[name] = export_lora(tmp_path / name, random_folder, tmp_path / f"{name}.gguf")
        copy = tmp_path / f"merged-{name}"
        shutil.copytree(random_folder, copy, ignore=shutil.ignore_patterns("manifest.json"))
        weights = load_file(copy / "model.safetensors")
        save_file(
            {key: value + added.get(key, 0) for key, value in weights.items()},
            copy / "model.safetensors",
            metadata={"format": "pt"},
        )
        merged[name] = TorchEngine.load(copy, dtype="float32")
    base = TorchEngine.load(random_folder, dtype="float32")
    served = open_engine(random_folder, tmp_path, adapters=adapters)
    try:
        sampling = Sampling(temperature=0, max_new_tokens=12)
        asked = {
            name: GenerateRequest(prompt=TEXT, sampling=sampling, adapter=name)
            for name in (None, "acme", "zenith", None, "acme")
        }
        answers = {name: readable(served.generate(request).text) for name, request in asked.items()}
        plain = GenerateRequest(prompt=TEXT, sampling=sampling)
        assert answers[None] == readable(base.generate(plain).text)
        for name in merged:
            merged_text = readable(merged[name].generate(plain).text)
            assert answers[name] == merged_text != answers[None]
        with pytest.raises(GenerationError, match="did you mean acme"):
            served.generate(GenerateRequest(prompt=TEXT, adapter="acmee"))
    finally:
        for engine in (served, base, *merged.values()):
            engine.close()


def test_a_schema_that_is_none_is_refused(engine: LlamaCppEngine) -> None:
    with pytest.raises(GenerationError) as caught:
        engine.generate(GenerateRequest(prompt="x", json_schema={"type": "nothing"}))
    assert caught.value.code == "schema"


def test_what_a_model_reports_adds_up(engine: LlamaCppEngine) -> None:
    answer = engine.generate(greedy(logprobs=engine.info.vocab_size // 20, ignore_eos=True))
    whole = [token for token in answer.tokens if token.alternatives]
    assert whole
    for token in whole:
        best = np.array([other.logprob for other in token.alternatives])
        assert (np.diff(best) <= 1e-6).all() and best[0] == pytest.approx(token.logprob)


def test_it_starts_where_no_local_socket_can_be_made(
    qwen3_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A confined process has none, and the path of one may be too long."""
    deep = tmp_path / ("deep-" * 20)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    running = open_engine(qwen3_folder, tmp_path)
    try:
        assert collect(running, greedy())
    finally:
        running.close()
