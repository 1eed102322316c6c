"""Train in memory with the real train_step: no run folder, no events, nothing else to time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from triptych.config import load_config
from triptych.lm.evaluate.loss import Measurement, measure
from triptych.lm.model.transformer import Transformer
from triptych.lm.train.distribution import World
from triptych.lm.train.probe import matmul_flops
from triptych.lm.train.recipe import HardwareChoice, Recipe, derive
from triptych.lm.train.setup import Corpus, shape_of
from triptych.lm.train.train_step import TrainStep


@dataclass(frozen=True)
class Learned:
    """What a training reached. Units: `seconds` of training, without evaluations."""

    scored: Measurement
    seconds: float
    recipe: Recipe
    curve: list[tuple[int, float]]


def learner_of(
    corpus: Corpus,
    settings: Sequence[str],
    change: Callable[[Transformer], None] = lambda model: None,
) -> TrainStep:
    """Make a train_step as a run would, except that nothing is probed but the matrix rate."""
    config = load_config(None, settings)
    train = config.train
    precision = "bfloat16" if train.precision == "auto" else train.precision
    torch.manual_seed(train.seed)
    model = Transformer(shape_of(config.model, corpus))
    change(model)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    choice = HardwareChoice(
        device="cpu",
        machine="",
        threads=torch.get_num_threads(),
        precision=precision,
        compile=train.compile == "on",
        machine_flops=matmul_flops("cpu", dtype),
        tok_per_s=20_000.0,
    )
    recipe = derive(train, model.config, choice, train_tokens=len(corpus.train))
    return TrainStep(model, corpus.train, train, recipe, World())


def learn(
    corpus: Corpus,
    settings: Sequence[str],
    *,
    change: Callable[[Transformer], None] = lambda model: None,
    evaluate_every: int = 0,
    eval_tokens: int | None = None,
    enough: Callable[[Measurement], bool] = lambda scored: False,
) -> Learned:
    """Train to the end, or until an evaluation is enough."""
    train_step = learner_of(corpus, settings, change)
    recipe = train_step.recipe

    def evaluate(tokens: int | None) -> Measurement:
        with train_step.evaluated() as model:
            return measure(
                model,
                corpus.val.read,
                len(corpus.val),
                corpus.byte_lengths,
                context_length=recipe.context_length,
                batch_size=max(1, 8192 // recipe.context_length),
                max_tokens=tokens,
            )

    seconds, curve = 0.0, []
    for step in range(recipe.steps):
        started_s = time.perf_counter()
        train_step.step(step)
        seconds += time.perf_counter() - started_s
        if evaluate_every and (step + 1) % evaluate_every == 0 and step + 1 < recipe.steps:
            scored = evaluate(eval_tokens)
            curve.append((train_step.tokens_seen(step + 1), scored.bpb))
            if enough(scored):
                break
    scored = evaluate(None)
    curve.append((train_step.tokens_seen(step + 1), scored.bpb))
    return Learned(scored, seconds, recipe, curve)
