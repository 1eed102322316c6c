"""Tokens per second of `small` at 4 x 512, beside `transformers.Trainer` on the same shape.

Both train the Llama shape of 35.8 M parameters in bfloat16 with fused AdamW on random tokens.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.training.learn import learner_of
from benchmarks.training.texts import corpus_of
from triptych.lm.model.config import ModelConfig
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.train.probe import matmul_flops
from triptych.lm.train.recipe import flops_per_token
from triptych.lm.train.setup import Corpus

VOCAB = 32_000
WARM = 3


@dataclass(frozen=True)
class Batch:
    """The shape of one forward pass."""

    rows: int
    context: int

    @property
    def tokens(self) -> int:
        """Tokens in it."""
        return self.rows * self.context


def run(texts: Path, *, quick: bool) -> tuple[dict[str, Any], str]:
    """Measure both, eager and compiled, and Muon beside AdamW at a larger batch."""
    steps, batch = (3, Batch(1, 64)) if quick else (15, Batch(4, 512))
    corpus = _random_corpus()
    rate = statistics.median(matmul_flops("cpu", torch.bfloat16, 0.5) for _ in range(3))
    shape = ModelConfig.of_size("small", model_type="llama", vocab_size=VOCAB)
    flops = flops_per_token(shape, batch.context)
    speeds = {
        "triptych": ours(corpus, batch, steps, "adamw", 1, "off"),
        "transformers": apart(theirs, shape, batch, steps, False),
        "triptych, compiled": ours(corpus, batch, steps, "adamw", 1, "on"),
        "transformers, compiled": apart(theirs, shape, batch, steps, True),
    }
    large = {
        name: ours(corpus, batch, max(3, steps // 3), name, 4, "off") for name in ("adamw", "muon")
    }
    muon_cost_frac = large["adamw"] / large["muon"] - 1
    figures = {
        "tok_per_s": speeds,
        "matmul_flops": rate,
        "flops_per_token": flops,
        "matmul_frac": {name: speed * flops / rate for name, speed in speeds.items()},
        "times": speeds["triptych"] / speeds["transformers"],
        "times_compiled": speeds["triptych, compiled"] / speeds["transformers, compiled"],
        "tok_per_s_8k_tokens": large,
        "muon_cost_frac": muon_cost_frac,
    }
    rows = "\n".join(
        f"| {name} | {speed:,.0f} | {speed * flops / rate:.0%} |" for name, speed in speeds.items()
    )
    text = f"""`small` with the Llama shape ({shape.num_parameters:,} parameters), batch \
{batch.rows} x {batch.context}, bfloat16, fused AdamW, median of {steps} steps.

| | tokens per second | of the matrix rate |
|---|---|---|
{rows}

The matrix rate is {rate / 1e9:,.0f} GFLOP/s, one bfloat16 product of 1024 x 1024 x 1024.
As it comes {figures["times"]:.2f} times `transformers.Trainer`, compiled \
{figures["times_compiled"]:.2f} times.

At {4 * batch.tokens:,} tokens per step AdamW trains {large["adamw"]:,.0f} tokens per second and \
Muon {large["muon"]:,.0f}: Muon's own cost is {muon_cost_frac:.1%}.
"""
    return figures, text


def apart(measure: Callable[..., float], *args: Any) -> float:
    """Measure in a process of its own: how ours keeps memory would speed the other up as well."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *args).result()


def ours(
    corpus: Corpus, batch: Batch, steps: int, optimizer: str, batches: int, compiled: str
) -> float:
    """Return our median tokens per second."""
    tokens = batch.tokens * batches
    settings = [
        "model.size=small",
        "model.model_type=llama",
        f"train.optimizer={optimizer}",
        f"train.context_length={batch.context}",
        f"train.batch_tokens={tokens}",
        f"train.micro_batch={batch.rows}",
        f"train.steps={steps + WARM}",
        "train.precision=bfloat16",
        f"train.compile={compiled}",
    ]
    train_step = learner_of(corpus, settings)
    times = []
    for step in range(steps + WARM):
        started_s = time.perf_counter()
        train_step.step(step)
        times.append(time.perf_counter() - started_s)
    return tokens / statistics.median(times[WARM:])


def theirs(shape: ModelConfig, batch: Batch, steps: int, compiled: bool) -> float:
    """Return the median tokens per second of `transformers.Trainer`."""
    import transformers

    times: list[float] = []

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            times.append(-time.perf_counter())

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times[-1] += time.perf_counter()

    transformers.logging.set_verbosity_error()
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape.to_hf_dict()))
    ids = torch.randint(VOCAB, (batch.rows * (steps + WARM), batch.context))
    rows = [{"input_ids": row, "labels": row} for row in ids]
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch.rows,
            max_steps=steps + WARM,
            bf16=True,
            use_cpu=True,
            optim="adamw_torch_fused",
            torch_compile=compiled,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        transformers.Trainer(
            model=model, args=arguments, train_dataset=rows, callbacks=[Clock()]
        ).train()
    return batch.tokens / statistics.median(times[WARM:])


def _random_corpus() -> Corpus:
    """Make tokens of the full vocabulary; speed does not depend on what they say."""
    chance = np.random.default_rng(0)
    tokenizer = Tokenizer.train(iter(["speed"]), vocab_size=259)
    documents = [chance.integers(1, VOCAB, 1000).tolist() for _ in range(300)]
    return corpus_of(tokenizer, documents[3:], documents[:3], VOCAB)
