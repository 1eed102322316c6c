"""`triptych serve` as a process: light, without torch, and it drains when told to stop."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

SERVE = [sys.executable, "-m", "triptych", "serve"]


@contextmanager
def served(home: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [*SERVE, *arguments, "--port", "0", "--set", "generate.threads=1"],
        env={**os.environ, "TRIPTYCH_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        deadline = time.monotonic() + 120
        while not healthy(url):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        yield url, process
    finally:
        process.kill()
        process.communicate()


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url.removesuffix("/v1") + "/health", timeout=30) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(url: str, **body: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        url + "/completions",
        json.dumps({"prompt": "Hello", "max_tokens": 8, **body}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.loads(answer.read())


def loaded_libraries(process: subprocess.Popen[str]) -> str:
    return Path(f"/proc/{process.pid}/maps").read_text()


def test_serving_through_llama_cpp_loads_no_torch(qwen3_folder: Path, tmp_path: Path) -> None:
    with served(tmp_path, str(qwen3_folder)) as (url, process):
        assert ask(url, echo=True, logprobs=1)["usage"]["completion_tokens"] <= 8
        libraries = loaded_libraries(process)
        assert "xllamacpp" in libraries
        assert "/torch/" not in libraries and "/gradio/" not in libraries


def test_sigterm_lets_running_answers_finish_and_ends_well(
    qwen3_folder: Path, tmp_path: Path
) -> None:
    with served(tmp_path, str(qwen3_folder)) as (url, process):
        answers: list[dict[str, Any]] = []
        threads = [
            threading.Thread(
                target=lambda: answers.append(ask(url, max_tokens=450, ignore_eos=True, n=8))
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(timeout=120)
        assert process.wait(timeout=60) == 0
        assert [answer["usage"]["completion_tokens"] for answer in answers] == [450 * 8] * 3


def test_a_wrong_argument_ends_with_2_and_says_what_to_type(tmp_path: Path) -> None:
    done = subprocess.run(
        [*SERVE, "x/y/z", "--adapter", "nonsense"],
        env={**os.environ, "TRIPTYCH_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "NAME=REF" in done.stderr and "hint" in done.stderr


def test_a_full_memory_ends_one_answer_and_the_torch_engine_serves_on(
    write_model: Any, tmp_path: Path
) -> None:
    wide = {"head_dim": 128, "num_attention_heads": 16, "num_key_value_heads": 16}
    folder = write_model(tmp_path / "wide", "qwen3", **wide, max_position_embeddings=2048)
    with served(tmp_path, str(folder), "--engine", "torch", "--dtype", "float32") as (url, process):
        assert ask(url, prompt=[7] * 100)["usage"]["prompt_tokens"] == 100
        # 48 KiB for a token: this one needs 70 MiB, and half as much again while its place grows.
        large = {"prompt": [7] * 1500, "max_tokens": 2, "ignore_eos": True}
        held_bytes = psutil.Process(process.pid).memory_info().vms
        unlimited = resource.prlimit(process.pid, resource.RLIMIT_AS)
        resource.prlimit(process.pid, resource.RLIMIT_AS, (held_bytes + 64 * 2**20, unlimited[1]))
        with ThreadPoolExecutor(1) as pool:
            beside = pool.submit(ask, url, max_tokens=100, ignore_eos=True)
            with pytest.raises(urllib.error.HTTPError, match="507") as refused:
                ask(url, **large)
            told = json.loads(refused.value.read())["error"]
            assert told["code"] == "out_of_memory" and "not enough memory" in told["message"]
            assert refused.value.headers["retry-after"]
            assert beside.result()["usage"]["completion_tokens"] == 100
        assert ask(url, prompt=[7] * 100)["usage"]["prompt_tokens"] == 100
        resource.prlimit(process.pid, resource.RLIMIT_AS, unlimited)
        assert ask(url, **large)["usage"]["completion_tokens"] == 2, "it was the memory alone"


@pytest.mark.prove
def test_the_small_model_is_served_in_250_mb(write_model: Any, tmp_path: Path) -> None:
    from triptych.lm.model.config import ModelConfig

    shape = ModelConfig.of_size("small").to_hf_dict()
    sizes = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "vocab_size",
        "tie_word_embeddings",
    )
    folder = write_model(tmp_path / "small", "qwen3", **{key: shape[key] for key in sizes})
    with served(tmp_path, str(folder)):
        pass  # converts the weights once; what serves afterwards only reads them
    with served(tmp_path, str(folder)) as (url, process):
        for index in range(20):
            ask(url, prompt=f"Hello {index}" * 40, max_tokens=32)
        memory_bytes = psutil.Process(process.pid).memory_info().rss
    print(f"{memory_bytes / 1e6:.0f} MB")
    assert memory_bytes <= 250e6
