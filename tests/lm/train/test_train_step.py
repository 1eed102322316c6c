"""One step: what it reads, what it computes, and that nothing else matters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers

from triptych.config import Config
from triptych.lm.data import loader
from triptych.lm.model.transformer import Transformer
from triptych.lm.train.distribution import World
from triptych.lm.train.recipe import HardwareChoice, derive
from triptych.lm.train.setup import Corpus, shape_of
from triptych.lm.train.train_step import TrainStep

Settings = Callable[..., Config]


def make(config: Config, world: World | None = None) -> TrainStep:
    assert config.train.data is not None
    corpus = Corpus.open(config.train.data)
    torch.manual_seed(config.train.seed)
    model = Transformer(shape_of(config.model, corpus))
    choice = HardwareChoice(
        device="cpu",
        machine="",
        threads=1,
        precision="float32",
        compile=False,
        machine_flops=1.0,
        tok_per_s=1000.0,
    )
    recipe = derive(config.train, model.config, choice, train_tokens=len(corpus.train))
    return TrainStep(model, corpus.train, config.train, recipe, world or World())


def test_the_loss_of_a_step_is_the_one_transformers_computes(settings: Settings) -> None:
    train_step = make(settings())
    batches = loader.batches_per_epoch(train_step._shards, 8, 32)
    epoch, index = loader.locate(3, batches)
    inputs, targets = loader.batch(
        train_step._shards, seed=1, epoch=epoch, index=index, batch_size=8, sequence_length=32
    )
    theirs = transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(**train_step.model.config.to_hf_dict())
    )
    theirs.load_state_dict(train_step.model.state_dict())
    # They shift by themselves: the same text with its last token, unshifted, is both.
    text = torch.cat([torch.from_numpy(inputs), torch.from_numpy(targets[:, -1:])], dim=1)
    expected = theirs(text, labels=text).loss.item()
    assert train_step.step(3).loss == pytest.approx(expected, abs=1e-5)


def test_a_step_reads_what_its_number_says_whatever_ran_before(settings: Settings) -> None:
    one, other = make(settings()), make(settings())
    one.step(0)
    for step in (0, 5, 40):
        ours, theirs = one._micro_batches(step), other._micro_batches(step)
        for (a, b), (c, d) in zip(ours, theirs, strict=True):
            assert torch.equal(a, c) and torch.equal(b, d)


def test_processes_share_a_batch_without_gap_or_overlap(settings: Settings) -> None:
    alone = torch.cat([inputs for inputs, _ in make(settings())._micro_batches(7)])
    shared = []
    for rank in range(4):
        train_step = make(settings())
        train_step._world = World(rank=rank, size=4)
        shared += [inputs for inputs, _ in train_step._micro_batches(7)]
    assert torch.equal(torch.cat(shared), alone)


def test_what_dropout_drops_follows_from_the_step(settings: Settings) -> None:
    config = settings("train.dropout=0.5")
    one, other = make(config), make(config)
    torch.manual_seed(99)
    torch.rand(7)
    assert one.step(2).loss == other.step(2).loss
    assert make(config).step(2).loss != make(settings()).step(2).loss
