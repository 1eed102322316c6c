"""What an earlier answer has read is not read again, and changes no answer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from triptych.config.generate import GenerateConfig, Sampling
from triptych.lm.generate.engine import Completion, Engine, GenerateRequest
from triptych.lm.generate.packed.prompts import MIN_SHARED
from triptych.lm.generate.select_engine import open_engine

SHARED = [5 + place % 300 for place in range(200)]
OTHER = [7 + place % 200 for place in range(150)]


@pytest.fixture(params=["torch", "llama_cpp"])
def engine(request: pytest.FixtureRequest, qwen3_folder: Path, own_home: Path) -> Iterator[Engine]:
    config = GenerateConfig(engine=request.param, dtype="float32", threads=1, max_batch=4)
    running = open_engine(qwen3_folder, config)
    yield running
    running.close()


def ask(
    engine: Engine, ids: list[int], *, reread: bool = False, logprobs: Any = None
) -> Completion:
    sampling = Sampling(temperature=0, max_new_tokens=6, ignore_eos=True, logprobs=logprobs)
    return engine.generate(GenerateRequest(prompt=ids, sampling=sampling, reread=reread))


def test_a_prompt_that_begins_alike_is_read_from_where_it_differs(engine: Engine) -> None:
    assert ask(engine, [*SHARED, 1, 2]).cached_tokens == 0
    assert ask(engine, OTHER).cached_tokens == 0
    again = ask(engine, [*SHARED, 3, 4])
    assert again.cached_tokens == len(SHARED), "another conversation in between changes nothing"
    fresh = ask(engine, [*SHARED, 3, 4], reread=True)
    assert fresh.cached_tokens == 0 and fresh.text == again.text


def test_the_next_turn_reads_neither_the_turn_before_nor_its_answer(engine: Engine) -> None:
    first = ask(engine, SHARED, logprobs=0)
    turn = [*SHARED, *(token.token_id for token in first.tokens), 9, 9]
    assert ask(engine, turn).cached_tokens >= len(SHARED) + len(first.tokens) - 1


def test_prompts_at_once_read_what_they_share_once(qwen3_folder: Path) -> None:
    config = GenerateConfig(engine="torch", dtype="float32", threads=1, max_batch=8)
    engine = open_engine(qwen3_folder, config)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = [*pool.map(lambda number: ask(engine, [*SHARED, number]), range(8))]
        assert sum(answer.cached_tokens for answer in found) == 7 * len(SHARED)
    finally:
        engine.close()


def test_short_prompts_and_small_budgets_keep_nothing(qwen3_folder: Path) -> None:
    config: Any = GenerateConfig(engine="torch", dtype="float32", threads=1)
    with_none = open_engine(qwen3_folder, config, prompt_cache_bytes=0)
    kept = open_engine(qwen3_folder, config)
    try:
        for engine, ids in ((with_none, SHARED), (kept, SHARED[: MIN_SHARED - 1])):
            ask(engine, ids)
            assert ask(engine, ids).cached_tokens == 0
    finally:
        with_none.close()
        kept.close()
