"""How fast models answer: transformers, bare llama.cpp, our torch engine, and our model server.

Same random weights for all (speed does not depend on what they say), greedy, 128 new tokens, on
`small` (36 M parameters) and `micro` (3 M). What is compared takes turns within one round, so a
busy machine slows all of it alike; medians of the rounds are reported, and of the ratios too.

Claims: through HTTP a single stream is at least 3 times transformers bf16 and within 5 % of bare
llama.cpp at the same width; 16 concurrent streams together at least 5 times sequential
transformers; the torch engine alone at least twice transformers; HTTP costs under 50
microseconds per token; a cached model is switched to in under 0.5 s; 100 readers that never read
do not slow one that does; `small` is served in at most 250 MB. Run it on a machine that does
nothing else. Each part adds to what the others wrote, so they can be run one at a time:
`python benchmarks/generate.py --parts streams --sizes small --prompts 32`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from engines import NEW_TOKENS, worker
from report import RESULTS, environment, write_results

PARTS = ("streams", "overhead", "readers", "start", "switch")
PROMPTS = (32, 512)
STREAMS = 16
STUCK_READERS = 100
Found = dict[str, Any]


def main() -> None:
    """Measure and write results/generate.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtype", default="float16", choices=("bfloat16", "float16", "q8_0"))
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--sizes", nargs="+", default=("small", "micro"))
    parser.add_argument("--prompts", nargs="+", type=int, default=PROMPTS)
    parser.add_argument("--models", type=Path, help="keep the models here for the next part")
    args = parser.parse_args()
    file = RESULTS / "generate.json"
    found: Found = json.loads(file.read_text()) if file.exists() else {}
    found["machine"] = environment()
    found |= {"rounds": args.rounds, "width": args.dtype}
    with tempfile.TemporaryDirectory(prefix="triptych-bench-") as temporary:
        home = args.models or Path(temporary)
        os.environ["TRIPTYCH_HOME"] = str(home)
        for size in args.sizes:
            folder = write_model(home / size, size)
            found[size] = found.get(size, {}) | measure(folder, args)
            print(json.dumps(found[size], indent=2), flush=True)
        if "switch" in args.parts:
            folders = [write_model(home / size, size) for size in ("small", "micro")]
            found["model switch"] = model_switch(folders)
    found["machine"]["load_at_end"] = round(os.getloadavg()[0], 2)
    write_results("generate", found)


def write_model(folder: Path, size: str) -> Path:
    """Write a model of random weights whose context holds the longest prompt and its answer."""
    if (folder / "model.safetensors").exists():
        return folder
    import torch

    from triptych.lm.model.checkpoint import save_model
    from triptych.lm.model.config import ModelConfig
    from triptych.lm.model.tokenizer import Tokenizer
    from triptych.lm.model.transformer import Transformer

    config = ModelConfig.of_size(size, max_position_embeddings=1024)
    torch.manual_seed(0)
    model = Transformer(config)
    model.reset_parameters(zero_outputs=False)
    # Every token must be a word, or most of a stream would be silent and cost nothing.
    tokenizer = Tokenizer.train(iter(invented_words()), vocab_size=config.vocab_size)
    assert tokenizer.vocab_size == config.vocab_size
    save_model(folder, model.to(torch.bfloat16), tokenizer)
    return folder


def invented_words() -> list[str]:
    """Return lines of made-up words, enough of them for the largest vocabulary."""
    draw = random.Random(0)
    parts = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "ol")]
    words = ["".join(draw.choices(parts, k=draw.randint(2, 4))) for _ in range(40_000)]
    return [" ".join(draw.choices(words, k=12)) for _ in range(20_000)]


def measure(folder: Path, args: argparse.Namespace) -> Found:
    """Let everything take turns on one model."""
    from triptych.lm.generate.gguf_cache import cached_gguf
    from triptych.lm.generate.select_engine import GGUF_TYPE

    gguf = cached_gguf(folder, GGUF_TYPE[args.dtype])
    found: Found = {}
    if "start" in args.parts:
        found |= start_and_memory(folder, args.dtype)
    if not {"streams", "overhead", "readers"} & set(args.parts):
        return found
    with ExitStack() as stack:
        url, server = stack.enter_context(served(folder, args.dtype))
        bare = stack.enter_context(worker("bare", gguf))
        if "streams" in args.parts:
            library = stack.enter_context(worker("transformers", folder))
            ours = stack.enter_context(worker("torch", folder))
            as_it_comes = stack.enter_context(worker("bare as it comes", gguf))
            for prompt in args.prompts:
                firsts: list[float] = []
                turns = {
                    "transformers bf16": lambda p=prompt: library(p),
                    "torch engine bf16": lambda p=prompt: ours(p),
                    "bare llama.cpp": lambda p=prompt: bare(p),
                    "bare llama.cpp as it comes": lambda p=prompt: as_it_comes(p),
                    "HTTP": lambda p=prompt: NEW_TOKENS / stream(url, p)[0],
                    f"HTTP, {STREAMS} streams": lambda p=prompt, into=firsts: many_streams(
                        url, p, into
                    ),
                }
                found |= compared(prompt, take_turns(turns, args.rounds), firsts)
        if "overhead" in args.parts:
            found["HTTP overhead, microseconds/token"] = overhead(url, server, bare, args.rounds)
        if "readers" in args.parts:
            found["one reader beside 100 that never read"] = beside_stuck_readers(url)
    return found


def compared(prompt: int, speeds: dict[str, list[float]], firsts: list[float]) -> Found:
    """Set the turns of one prompt length beside each other."""
    many = f"HTTP, {STREAMS} streams"
    return {
        f"prompt {prompt}: tokens/s": {
            name: round(statistics.median(values), 1) for name, values in speeds.items()
        },
        f"prompt {prompt}: ratios": {
            "HTTP / transformers": ratio(speeds, "HTTP", "transformers bf16"),
            "HTTP / bare llama.cpp": ratio(speeds, "HTTP", "bare llama.cpp"),
            "HTTP / bare llama.cpp as it comes": ratio(
                speeds, "HTTP", "bare llama.cpp as it comes"
            ),
            f"{STREAMS} streams / transformers": ratio(speeds, many, "transformers bf16"),
            "torch engine / transformers": ratio(speeds, "torch engine bf16", "transformers bf16"),
        },
        f"prompt {prompt}: first token under load, s": percentiles(firsts),
    }


def start_and_memory(folder: Path, dtype: str) -> Found:
    """Start a server of default settings; gives the seconds until it answers, and its memory."""
    command = [sys.executable, "-m", "triptych", "serve", str(folder), "--port", "0"]
    waits: dict[str, list[float]] = {"listens": [], "answers": []}
    memory: dict[str, int] = {}
    for _ in range(5):
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--dtype", dtype],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            waits["listens"].append(time.perf_counter() - started)
            stream(url, 8, 1)
            waits["answers"].append(time.perf_counter() - started)
            resident = psutil.Process(process.pid).memory_info
            memory["at rest"] = round(resident().rss / 1e6)
            if not memory.get("after 64 answers"):
                for _ in range(4):
                    many_streams(url, 128, [])
                memory["after 64 answers"] = round(resident().rss / 1e6)
        finally:
            process.kill()
            process.wait()
    return {
        "start, s": {name: round(statistics.median(values), 2) for name, values in waits.items()},
        "server memory, MB": memory,
    }


def take_turns(turns: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run each once to warm up, then all of them once per round."""
    for run in turns.values():
        run()
    speeds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, run in turns.items():
            speeds[name].append(run())
    return speeds


def ratio(speeds: dict[str, list[float]], one: str, other: str) -> float:
    """Return the median of the ratios within the rounds."""
    pairs = zip(speeds[one], speeds[other], strict=True)
    return round(statistics.median(a / b for a, b in pairs), 3)


@contextmanager
def served(*arguments: Path | str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve models in a process of its own; the last argument is the width."""
    *folders, dtype = map(str, arguments)
    command = [sys.executable, "-m", "triptych", "serve", *folders, "--port", "0"]
    process = subprocess.Popen(
        [*command, "--dtype", dtype, "--engine", "llama_cpp", "--max-batch", str(STREAMS),
         "--set", "serve.kv_cache_bytes=268435456"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        stream(url, 8)
        yield url, process
    finally:
        process.kill()
        process.wait()


def request(prompt: int, tokens: int = NEW_TOKENS, first: int = 10) -> bytes:
    """Write a streamed completion request; another `first` token defeats the prefix cache."""
    ids = [first, *range(11, 10 + prompt)]
    body = json.dumps(
        {"prompt": ids, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True}
    ).encode()
    return (
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(body) + body
    )


_fresh = iter(range(10, 10_000_000))


def stream(url: str, prompt: int, tokens: int = NEW_TOKENS) -> tuple[float, float]:
    """Read one stream to its end; gives the seconds to the end and to the first token."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port)) as connection:
        message = request(prompt, tokens, 10 + next(_fresh) % 280)
        started = time.perf_counter()
        connection.sendall(message)
        first, tail = 0.0, b""
        while b"[DONE]" not in tail:
            piece = connection.recv(65536)
            assert piece, "the server closed the connection"
            if not first and b'"text"' in piece:
                first = time.perf_counter() - started
            tail = tail[-16:] + piece
        return time.perf_counter() - started, first


def many_streams(url: str, prompt: int, firsts: list[float]) -> float:
    """Read several streams at once; gives all tokens per second, notes each first token's time."""
    threads = [
        threading.Thread(target=lambda: firsts.append(stream(url, prompt)[1]))
        for _ in range(STREAMS)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return STREAMS * NEW_TOKENS / (time.perf_counter() - started)


def percentiles(values: list[float]) -> dict[str, float]:
    """Return the middle and the slow end."""
    ordered = sorted(values)
    return {
        "p50": round(ordered[len(ordered) // 2], 3),
        "p95": round(ordered[int(len(ordered) * 0.95)], 3),
    }


def overhead(
    url: str, server: subprocess.Popen[str], bare: Callable[[int], float], rounds: int
) -> dict[str, float]:
    """Return what HTTP adds to a token: in elapsed time, and in the server's processor time."""
    process = psutil.Process(server.pid)
    waits = []
    for _ in range(rounds):
        through = stream(url, 32)[0] / NEW_TOKENS
        waits.append(through - 1 / bare(32))
    before = process.cpu_times()
    many = [stream(url, 32)[0] for _ in range(rounds)]
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return {
        "wall clock, median": round(statistics.median(waits) * 1e6, 1),
        "server processor time per token": round(used / (len(many) * NEW_TOKENS) * 1e6, 1),
    }


def beside_stuck_readers(url: str) -> dict[str, float]:
    """Read one stream while 100 connections never read what they asked for."""
    alone = statistics.median(stream(url, 32)[0] for _ in range(5))
    place = urlsplit(url)
    stuck = [socket.create_connection((place.hostname, place.port)) for _ in range(STUCK_READERS)]
    try:
        for connection in stuck:
            connection.sendall(request(8, 64))
        # Their answers are written whether they read or not; afterwards only the sockets remain.
        time.sleep(0.5)
        while stream(url, 8, 1)[1] > 2 * alone:
            pass
        beside = statistics.median(stream(url, 32)[0] for _ in range(5))
    finally:
        for connection in stuck:
            connection.close()
    return {
        "tokens/s alone": round(NEW_TOKENS / alone, 1),
        "tokens/s beside": round(NEW_TOKENS / beside, 1),
    }


def model_switch(folders: list[Path]) -> dict[str, float]:
    """Ask two loaded models in turn; gives the slowest first token after a switch."""
    with served(*folders, "float16") as (url, _):
        place = urlsplit(url)
        waits = []
        for turn in range(20):
            name = folders[turn % 2].name
            body = json.dumps({"model": name, "prompt": "a", "max_tokens": 1}).encode()
            with socket.create_connection((place.hostname, place.port)) as connection:
                started = time.perf_counter()
                connection.sendall(
                    b"POST /v1/completions HTTP/1.1\r\nhost: a\r\n"
                    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
                    % len(body)
                    + body
                )
                assert b"200 OK" in connection.recv(65536)
                waits.append(time.perf_counter() - started)
    return {"slowest of 18, s": round(max(waits[2:]), 3)}


if __name__ == "__main__":
    main()
