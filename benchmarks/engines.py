"""What the model server is measured beside, each in a process of its own.

Bare llama.cpp, set up as our engine sets it up and as it comes; transformers; our torch engine.
Each continues a prompt of the same tokens by the same number of tokens, greedy.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NEW_TOKENS = 128


@contextmanager
def worker(kind: str, path: Path) -> Iterator[Callable[[int], float]]:
    """Run one of the others in a process of its own; a call gives its tokens per second."""
    process = subprocess.Popen(
        [sys.executable, __file__, kind, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None

    def ask(prompt: int) -> float:
        assert process.stdin is not None and process.stdout is not None
        print(prompt, file=process.stdin, flush=True)
        return float(process.stdout.readline())

    try:
        yield ask
    finally:
        process.kill()
        process.wait()


def work(kind: str, path: Path) -> None:
    """Answer, line by line, how fast a prompt of that many tokens is continued."""
    run = {
        "bare": bare_llama,
        "bare as it comes": lambda gguf: bare_llama(gguf, as_it_comes=True),
        "transformers": library_generate,
        "torch": torch_engine,
    }[kind](path)
    for line in sys.stdin:
        ids = list(range(10, 10 + int(line)))
        started = time.perf_counter()
        run(ids)
        print(NEW_TOKENS / (time.perf_counter() - started), flush=True)


def bare_llama(gguf: Path, *, as_it_comes: bool = False) -> Callable[[list[int]], None]:
    """Run llama.cpp with nothing around it, set up as our engine sets it up, or by its makers."""
    if not as_it_comes:
        # First, as it also says how threads wait.
        from triptych.lm.generate.llama_cpp import BATCH_TOKENS
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.n_ctx = 1024
    params.n_parallel = 1
    if not as_it_comes:
        params.n_batch = params.n_ubatch = BATCH_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = -1
    params.fit_params = False
    params.verbosity = 0
    params.n_threads_http = 1
    server = xllamacpp.Server(params)

    def run(ids: list[int]) -> None:
        body = {"prompt": ids, "max_tokens": NEW_TOKENS, "temperature": 0, "ignore_eos": True}
        answer = server.handle_completions({**body, "cache_prompt": False})
        assert answer["usage"]["completion_tokens"] == NEW_TOKENS

    return run


def library_generate(folder: Path) -> Callable[[list[int]], None]:
    """Run transformers.generate in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    wanted = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False}

    def run(ids: list[int]) -> None:
        with torch.inference_mode():
            prompt = torch.tensor([ids])
            answer = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), pad_token_id=0, **wanted
            )
        assert answer.shape[1] == len(ids) + NEW_TOKENS

    return run


def torch_engine(folder: Path) -> Callable[[list[int]], None]:
    """Run our torch engine in bfloat16."""
    from triptych.config.generate import Sampling
    from triptych.lm.generate.engine import GenerateRequest
    from triptych.lm.generate.torch_engine import TorchEngine

    engine = TorchEngine.load(folder, dtype="bfloat16")
    sampling = Sampling(temperature=0, max_new_tokens=NEW_TOKENS, ignore_eos=True)

    def run(ids: list[int]) -> None:
        answer = engine.generate(GenerateRequest(prompt=ids, sampling=sampling))
        assert answer.output_tokens == NEW_TOKENS

    return run


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]))
