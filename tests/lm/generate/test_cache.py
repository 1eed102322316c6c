"""Models are loaded once, kept within the budget, and never closed while in use."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from triptych.config.generate import GenerateConfig, Sampling
from triptych.errors import CheckpointError, ExportError, GenerationError
from triptych.lm.generate.cache import ModelCache
from triptych.lm.generate.engine import Engine, GenerateRequest
from triptych.lm.generate.gguf_cache import cached_gguf
from triptych.lm.generate.select_engine import open_engine, select_engine, weights_bytes

CONFIG = GenerateConfig(threads=1, max_batch=2, dtype="float32")


class Shelf:
    """Three names for one folder, opened for real; how often each was opened is counted."""

    def __init__(self, folder: Path, budget: float) -> None:
        self.folder = folder
        self.opened: list[str] = []
        self.size = weights_bytes(folder, CONFIG)
        self.cache = ModelCache(
            self.open, lambda _: self.size, memory_bytes=int(budget * self.size)
        )

    def open(self, key: str) -> Engine:
        self.opened.append(key)
        time.sleep(0.05)
        if key == "broken":
            raise CheckpointError("broken")
        return open_engine(self.folder, CONFIG, model=key)


@pytest.fixture
def shelf(qwen3_folder: Path) -> Any:
    shelves = []

    def build(budget: float) -> Shelf:
        shelves.append(Shelf(qwen3_folder, budget))
        return shelves[-1]

    yield build
    for made in shelves:
        made.cache.close()


def test_concurrent_demand_loads_a_model_once(shelf: Any) -> None:
    made = shelf(1.5)
    engines = []

    def ask() -> None:
        with made.cache.lease("a") as engine:
            engines.append(engine)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.opened == ["a"]
    assert len(engines) == 12 and len(set(map(id, engines))) == 1


def test_the_least_recently_used_model_leaves_first(shelf: Any) -> None:
    made = shelf(2.5)
    for key in ("a", "b", "a", "c"):
        made.cache.lease(key).release()
    assert list(made.cache.loaded()) == ["a", "c"]
    assert made.opened == ["a", "b", "c"]


def test_a_model_in_use_never_leaves(shelf: Any) -> None:
    made = shelf(1.5)
    with made.cache.lease("a") as engine:
        with pytest.raises(GenerationError) as caught:
            made.cache.lease("b")
        assert caught.value.code == "busy" and caught.value.retryable
        request = GenerateRequest(prompt="x", sampling=Sampling(max_new_tokens=2))
        assert engine.generate(request).output_tokens <= 2
    made.cache.lease("b").release()
    assert list(made.cache.loaded()) == ["b"]


def test_a_model_over_the_budget_is_refused(shelf: Any) -> None:
    with pytest.raises(GenerationError) as caught:
        shelf(0.5).cache.lease("a")
    assert caught.value.code == "memory"


def test_a_failure_is_told_and_tried_again(shelf: Any) -> None:
    made = shelf(1.5)
    for _ in range(2):
        with pytest.raises(CheckpointError):
            made.cache.lease("broken")
    assert made.opened == ["broken", "broken"]
    made.cache.lease("a").release()


def test_a_lease_given_back_twice_counts_once(shelf: Any) -> None:
    made = shelf(1.5)
    first, second = made.cache.lease("a"), made.cache.lease("a")
    first.release()
    first.release()
    with pytest.raises(GenerationError):
        made.cache.lease("b")
    second.release()
    made.cache.lease("b").release()


def test_what_is_not_loaded_is_not_waited_for(shelf: Any) -> None:
    made = shelf(1.5)
    assert made.cache.lease_loaded("a") is None
    made.cache.lease("a").release()
    lease = made.cache.lease_loaded("a")
    assert lease is not None
    lease.release()


def test_a_switch_to_a_loaded_model_waits_for_nothing(shelf: Any) -> None:
    made = shelf(2.5)
    for key in ("a", "b"):
        made.cache.lease(key).release()
    made.opened.clear()
    for key in ("a", "b") * 50:
        made.cache.lease(key).release()
    assert made.opened == []


def test_after_closing_nothing_opens(shelf: Any) -> None:
    made = shelf(1.5)
    made.cache.close()
    with pytest.raises(GenerationError, match="closed"):
        made.cache.lease("a")


def test_a_gguf_file_is_written_once_and_again_when_the_model_changes(
    write_model: Any, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "m", "llama", num_hidden_layers=1)
    first = cached_gguf(folder, "f16")
    written = first.stat().st_ino
    assert cached_gguf(folder, "f16") == first and first.stat().st_ino == written
    assert cached_gguf(folder, "q8_0") != first
    write_model(folder, "llama", seed=5, num_hidden_layers=1)
    assert cached_gguf(folder, "f16") != first


def test_the_choice_of_an_engine_is_automatic_said_and_forceable(
    qwen3_folder: Path, tmp_path: Path
) -> None:
    auto = select_engine(qwen3_folder, GenerateConfig(device="cpu"))
    assert auto.engine == "llama_cpp" and auto.reason
    forced = select_engine(qwen3_folder, GenerateConfig(engine="torch"))
    assert forced.engine == "torch"
    gpu = select_engine(qwen3_folder, GenerateConfig(device="cuda"))
    assert gpu.engine == "torch" and "GPU" in gpu.reason
    other = tmp_path / "gpt2"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "gpt2"}')
    assert select_engine(other, GenerateConfig()).engine == "transformers"
    with pytest.raises(CheckpointError, match="holds no model"):
        select_engine(tmp_path, GenerateConfig())


def test_a_forced_engine_is_never_replaced(qwen3_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "gpt2"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ExportError, match="gpt2"):
        open_engine(other, GenerateConfig(engine="llama_cpp"))
    with pytest.raises(GenerationError, match="q8_0"):
        open_engine(qwen3_folder, GenerateConfig(engine="torch", dtype="q8_0"))
    with pytest.raises(GenerationError, match="base_url"):
        open_engine(qwen3_folder, GenerateConfig(engine="openai"))
