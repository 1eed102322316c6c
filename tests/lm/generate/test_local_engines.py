"""Torch, llama.cpp and transformers read, refuse and end alike, on one and the same model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from triptych.config.generate import GenerateConfig, Sampling
from triptych.errors import GenerationError
from triptych.lm.generate.engine import Engine, GenerateRequest
from triptych.lm.generate.select_engine import open_engine
from triptych.lm.model.checkpoint import load_tokenizer

TEXT = "The quick brown fox jumps; süßer Käse 数字 🙂 and again."
ENGINES = ["torch", "llama_cpp", "transformers"]
CONTEXT, VOCABULARY = 512, 512


def opened(folder: Path, name: Any) -> Engine:
    return open_engine(folder, GenerateConfig(engine=name, dtype="float32", threads=1, max_batch=2))


@pytest.fixture(scope="module", params=ENGINES)
def engine(
    request: pytest.FixtureRequest, qwen3_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        # Where the GGUF file goes that llama.cpp reads.
        patch.setenv("TRIPTYCH_HOME", str(tmp_path_factory.mktemp("home")))
        running = opened(qwen3_folder, request.param)
    yield running
    running.close()


def ask(prompt: Any, **sampling: Any) -> GenerateRequest:
    return GenerateRequest(
        prompt=prompt, sampling=Sampling(**{"temperature": 0, "max_new_tokens": 4, **sampling})
    )


def test_all_engines_read_the_same_tokens_of_a_text(engine: Engine, qwen3_folder: Path) -> None:
    tokenizer = load_tokenizer(qwen3_folder)
    assert engine.encode(TEXT) == tokenizer.encode(TEXT)
    assert engine.encode("") == [tokenizer.boundary_id]
    assert engine.generate(ask("")).input_tokens == 1


def test_all_engines_describe_the_model_alike(engine: Engine, qwen3_folder: Path) -> None:
    info = engine.info
    assert (info.context_length, info.vocab_size) == (CONTEXT, VOCABULARY)
    assert info.dtype in ("float32", "f32")
    messages = [{"role": "user", "content": "hello"}]
    expected = load_tokenizer(qwen3_folder).encode_chat(messages, add_generation_prompt=True)
    assert info.has_chat_template and engine.encode(messages) == expected


@pytest.mark.parametrize(
    ("ids", "code", "message"),
    [
        ([], "token_ids", "the prompt is empty"),
        ([-1], "token_ids", "token id -1 is not in the vocabulary: ids go from 0 to 511"),
        ([5, VOCABULARY], "token_ids", "token id 512 is not in the vocabulary: ids go from"),
        ([5] * (CONTEXT + 1), "context_length", "the prompt has 513 tokens; the model reads at"),
    ],
)
def test_all_engines_refuse_a_prompt_in_the_same_words(
    engine: Engine, ids: list[int], code: str, message: str
) -> None:
    for call in (lambda: engine.generate(ask(ids)), lambda: engine.score(ids)):
        with pytest.raises(GenerationError) as refused:
            call()
        assert refused.value.code == code and refused.value.hint
        assert refused.value.message.startswith(message)


def test_a_text_that_fills_the_context_is_scored_by_all_engines(engine: Engine) -> None:
    score = engine.score([5, 300] * (CONTEXT // 2))
    assert score.scored_tokens == CONTEXT - 1


def test_a_prompt_that_fills_the_context_has_one_token_of_answer_but_for_llama_cpp(
    engine: Engine,
) -> None:
    longest = CONTEXT - (engine.info.engine == "llama_cpp")
    answer = engine.generate(ask([5] * longest, max_new_tokens=9, ignore_eos=True))
    assert (answer.output_tokens, answer.finish_reason) == (1, "length")
    if longest < CONTEXT:
        with pytest.raises(GenerationError, match="reads at most 511") as refused:
            engine.generate(ask([5] * CONTEXT))
        assert refused.value.code == "context_length"


def test_all_engines_refuse_an_adapter_that_is_not_loaded(engine: Engine) -> None:
    with pytest.raises(GenerationError, match="no adapter 'company' is loaded") as refused:
        engine.generate(GenerateRequest(prompt="x", adapter="company"))
    assert refused.value.code == "adapter"


@pytest.mark.parametrize("name", ENGINES)
def test_a_closed_engine_ends_its_answers_and_refuses_all_work(
    name: str, qwen3_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_HOME", str(tmp_path))
    closed = opened(qwen3_folder, name)
    reasons: list[str | None] = []
    writing = threading.Event()
    request = ask("The", max_new_tokens=400, ignore_eos=True)
    closed.start(request, lambda chunk: (reasons.append(chunk.finish_reason), writing.set())[0])
    assert writing.wait(60)
    closed.close()
    closed.close()
    assert reasons[-1] in ("cancelled", "length")
    for call in (
        lambda: closed.start(request, print),
        lambda: closed.generate(request),
        lambda: closed.score(TEXT),
        lambda: closed.score([]),
    ):
        with pytest.raises(GenerationError, match="the engine is closed") as refused:
            call()
        assert refused.value.code == "closed"
