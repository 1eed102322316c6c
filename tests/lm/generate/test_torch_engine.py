"""The torch engine: exact against `transformers`, against itself in batches, and at its edges."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from triptych.errors import GenerationError
from triptych.lm.generate.engine import Chunk, Completion, GenerateRequest, Sampling
from triptych.lm.generate.torch_engine import TorchEngine
from triptych.lm.model.checkpoint import load_model


def prompts(count: int, longest: int = 40, seed: int = 0) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=generator).tolist()
    return [
        tuple(torch.randint(3, 400, (length,), generator=generator).tolist()) for length in lengths
    ]


def greedy(prompt: Any, **changes: Any) -> GenerateRequest:
    settings = {"temperature": 0.0, "max_new_tokens": 12, **changes}
    return GenerateRequest(prompt=prompt, sampling=Sampling(**settings))


def ids_of(completion: Completion) -> list[int]:
    return [token.token_id for token in completion.tokens]


def together(engine: TorchEngine, requests: list[GenerateRequest]) -> list[Completion]:
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(engine.generate, requests))


def oracle_answers(folder: Path, every: list[tuple[int, ...]], new: int) -> list[list[int]]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    answers = []
    for prompt in every:
        ids = torch.tensor([prompt])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=new,
            eos_token_id=[0, 2],
            pad_token_id=0,
        )
        answer = out[0, len(prompt) :].tolist()
        answers.append([token for token in answer if token not in (0, 2)])
    return answers


@pytest.mark.parametrize("count", [24, pytest.param(200, marks=pytest.mark.prove)])
def test_greedy_equals_transformers_alone_and_in_mixed_batches(
    folder: Path, engine: TorchEngine, count: int, proven: Callable[..., None]
) -> None:
    every = prompts(count)
    expected = oracle_answers(folder, every, new=12)
    requests = [greedy(prompt) for prompt in every]
    assert [ids_of(engine.generate(request)) for request in requests] == expected
    batched = [
        completion
        for start in range(0, count, 16)
        for completion in together(engine, requests[start : start + 16])
    ]
    assert [ids_of(completion) for completion in batched] == expected
    if count == 200:
        proven(
            "parity",
            f"torch engine and transformers.generate, {folder.name}, greedy float32",
            {
                "prompts": count,
                "tokens compared": sum(map(len, expected)),
                "token ids that differ alone": 0,
                "token ids that differ in mixed batches of 16": 0,
            },
        )


def test_cached_equals_uncached_token_for_token(folder: Path, engine: TorchEngine) -> None:
    model = load_model(folder)
    for prompt in prompts(4, seed=3):
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(10):
                ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        answer = engine.generate(greedy(prompt, max_new_tokens=10, ignore_eos=True))
        assert ids_of(answer) == ids[len(prompt) :]


def test_a_prompt_longer_than_one_piece_is_read_exactly(folder: Path, engine: TorchEngine) -> None:
    prompt = tuple(
        torch.randint(3, 400, (600,), generator=torch.Generator().manual_seed(1)).tolist()
    )
    answer = engine.generate(greedy(prompt, max_new_tokens=5, logprobs=0, ignore_eos=True))
    with torch.no_grad():
        logits = load_model(folder)(torch.tensor([[*prompt, *ids_of(answer)]]))[0]
    expected = logits.log_softmax(-1)[599:604].max(-1)
    assert ids_of(answer) == expected.indices.tolist()
    assert [token.logprob for token in answer.tokens] == pytest.approx(
        expected.values.tolist(), abs=1e-4
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_seeds_answer_is_bit_identical_alone_and_in_any_batch(folder: Path, dtype: str) -> None:
    engine = TorchEngine.load(folder, dtype=dtype, max_batch=16)
    requests = [
        GenerateRequest(
            prompt=prompt,
            sampling=Sampling(temperature=1.0, seed=index, max_new_tokens=20, logprobs=2),
        )
        for index, prompt in enumerate(prompts(16, seed=5))
    ]
    alone = [engine.generate(request) for request in requests]
    batched = together(engine, requests)
    engine.close()
    for one, other in zip(alone, batched, strict=True):
        assert one.tokens == other.tokens
        assert one.text == other.text


def test_a_seed_repeats_and_another_seed_differs(engine: TorchEngine) -> None:
    def text(seed: int | None) -> str:
        sampling = Sampling(temperature=1.0, seed=seed, max_new_tokens=20)
        return engine.generate(GenerateRequest(prompt="The quick", sampling=sampling)).text

    assert text(7) == text(7)
    assert text(7) != text(8)
    assert text(None) != text(None)


def test_the_context_ends_an_answer_with_length(engine: TorchEngine) -> None:
    prompt = (5,) * 636
    answer = engine.generate(greedy(prompt, max_new_tokens=50, ignore_eos=True))
    assert answer.finish_reason == "length"
    assert answer.output_tokens == 640 - 636 + 1


def test_stop_strings_end_the_answer_and_are_not_in_it(engine: TorchEngine) -> None:
    whole = engine.generate(greedy("The lazy", max_new_tokens=30, ignore_eos=True)).text
    stop = whole[8:11]
    answer = engine.generate(greedy("The lazy", max_new_tokens=30, ignore_eos=True, stop=(stop,)))
    assert answer.finish_reason == "stop"
    assert answer.text == whole[: whole.index(stop)]
    assert answer.output_tokens < 30


def test_the_stream_joins_to_the_whole_text(engine: TorchEngine) -> None:
    request = greedy("Ein Fünftel", max_new_tokens=30)
    chunks = list(engine.stream(request))
    assert "".join(chunk.text for chunk in chunks) == engine.generate(request).text
    assert [chunk.finish_reason is not None for chunk in chunks[:-1]] == [False] * (len(chunks) - 1)
    assert chunks[-1].finish_reason in ("stop", "length")


def test_cancel_ends_an_answer_within_one_step(engine: TorchEngine) -> None:
    chunks: list[Chunk] = []
    started, ended = threading.Event(), threading.Event()

    def emit(chunk: Chunk) -> None:
        chunks.append(chunk)
        started.set()
        if chunk.finish_reason:
            ended.set()

    request = greedy("The", max_new_tokens=600, ignore_eos=True)
    engine.start(request, emit)
    assert started.wait(30)
    assert engine.cancel(request.request_id)
    assert ended.wait(30)
    assert chunks[-1].finish_reason == "cancelled"
    assert chunks[-1].output_tokens < 600
    assert not engine.cancel(request.request_id)


def test_leaving_a_stream_early_frees_its_place(engine: TorchEngine) -> None:
    for _ in range(20):
        for _chunk in engine.stream(greedy("The", max_new_tokens=600, ignore_eos=True)):
            break
    assert engine.generate(greedy("The")).output_tokens == 12


def test_score_gives_the_log_probability_of_every_token(folder: Path, engine: TorchEngine) -> None:
    text = "The quick brown fox jumps over the lazy dog. 🙂"
    score = engine.score(text, alternatives=3)
    ids = engine.encode(text)
    with torch.no_grad():
        expected = load_model(folder)(torch.tensor([ids]))[0].log_softmax(-1)
    assert [token.token_id for token in score.tokens] == ids
    assert math.isnan(score.tokens[0].logprob)
    for place, token in enumerate(score.tokens[1:]):
        assert token.logprob == pytest.approx(float(expected[place, ids[place + 1]]), abs=1e-4)
        assert [other.token_id for other in token.alternatives] == expected[place].topk(3)[
            1
        ].tolist()
    assert b"".join(token.bytes for token in score.tokens).decode() == text
    assert score.nats == pytest.approx(-sum(token.logprob for token in score.tokens[1:]))
    assert score.scored_tokens == len(ids) - 1
    assert score.perplexity == pytest.approx(math.exp(score.nats / (len(ids) - 1)))


def test_chat_messages_are_rendered_with_the_models_template(engine: TorchEngine) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    ids = engine.encode(messages)
    assert engine.tokenizer.decode(ids, skip_special_tokens=False) == (
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )
    request = GenerateRequest(messages=messages, sampling=Sampling(temperature=0, max_new_tokens=3))
    assert engine.generate(request).input_tokens == len(ids)


def test_out_of_memory_ends_the_answers_of_one_round_and_the_engine_goes_on(
    engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve(*_: Any) -> torch.Tensor:
        return torch.empty(2**60)  # more than any machine has: torch itself refuses

    with monkeypatch.context() as patch:
        patch.setattr(engine._decoder, "step", starve)
        with pytest.raises(GenerationError, match="not enough memory") as refused:
            engine.generate(greedy("The"))
    assert refused.value.code == "out_of_memory" and refused.value.retryable
    assert engine.generate(greedy("The")).output_tokens == 12


def test_a_prompt_that_finds_no_memory_ends_alone(
    engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefill = engine._decoder.prefill

    def starve(ids: list[int], *rest: Any) -> torch.Tensor:
        return torch.empty(2**60) if len(ids) > 100 else prefill(ids, *rest)

    monkeypatch.setattr(engine._decoder, "prefill", starve)
    chunks: list[Chunk] = []
    ended = threading.Event()

    def keep(chunk: Chunk) -> None:
        chunks.append(chunk)
        if chunk.finish_reason is not None:
            ended.set()

    engine.start(greedy("The", max_new_tokens=300, ignore_eos=True), keep)
    with pytest.raises(GenerationError, match="not enough memory"):
        engine.generate(greedy([7] * 200))
    assert ended.wait(60) and chunks[-1].finish_reason == "length"


def test_more_requests_than_places_all_get_their_answer(folder: Path) -> None:
    engine = TorchEngine.load(folder, dtype="float32", max_batch=2)
    answers = together(engine, [greedy("The", max_new_tokens=5, ignore_eos=True)] * 7)
    engine.close()
    assert [answer.output_tokens for answer in answers] == [5] * 7
