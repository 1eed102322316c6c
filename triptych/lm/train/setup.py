"""From a configuration to everything pretraining needs: corpus, tokenizer, model, resolved recipe.

A new run measures the machine and derives its recipe; a resumed one reads both from its folder
and measures nothing. Left out: taking steps (`train_step`) and the run itself (`trainer`).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from triptych.config import Config
from triptych.config.loader import to_dict
from triptych.config.model import ModelSection
from triptych.config.train import TrainConfig
from triptych.errors import CheckpointError, ConfigError, RunError
from triptych.lm.data.shards import TokenShards
from triptych.lm.evaluate.loss import Measurement, measure
from triptych.lm.model.checkpoint import WEIGHTS, load_model, load_tokenizer, save_model
from triptych.lm.model.config import ModelConfig
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import Transformer
from triptych.lm.train import probe
from triptych.lm.train.checkpoints import load_tensors
from triptych.lm.train.distribution import World
from triptych.lm.train.folder import RunFolder
from triptych.lm.train.recipe import (
    HardwareChoice,
    Recipe,
    context_for,
    derive,
    horizon_tokens,
    with_optimizer,
)
from triptych.lm.train.run_setup import RunSetup
from triptych.lm.train.samples import document_prompts, generate_samples
from triptych.lm.train.start import batches_read, is_pretrained
from triptych.lm.train.train_step import TrainStep

Resolve = Callable[[str], Path]
# Eager training shorter than this never repays compilation.
_COMPILE_WORTH_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The data folder of a run, opened and verified.

    Shape: `byte_lengths` (V,), the bytes of text that each token stands for.
    """

    folder: Path
    train: TokenShards
    val: TokenShards
    tokenizer: Tokenizer
    byte_lengths: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> Corpus:
        """Open a data folder.

        Raises: DataError where it is not a corpus, is torn, or has no tokenizer.
        """
        train, val = TokenShards(folder, "train"), TokenShards(folder, "val")
        tokenizer = Tokenizer.load(folder / "tokenizer")
        return cls(
            folder=folder.resolve(),
            train=train,
            val=val,
            tokenizer=tokenizer,
            byte_lengths=tokenizer.token_byte_lengths(),
        )


class Setup(RunSetup):
    """Everything pretraining needs before its first step."""

    kind = "pretrain"

    def __init__(self, config: Config, corpus: Corpus, model: Transformer, recipe: Recipe) -> None:
        self.config, self.corpus, self.model, self.recipe = config, corpus, model, recipe
        self.tokenizer = corpus.tokenizer

    @property
    def data_fingerprint(self) -> str:
        """Return the fingerprint of the corpus."""
        return self.corpus.train.fingerprint

    @property
    def val_tokens(self) -> int:
        """Return how many tokens the whole validation split scores."""
        return len(self.corpus.val) - 1

    def make_step(self, world: World) -> TrainStep:
        """Return what takes the steps."""
        return TrainStep(self.model, self.corpus.train, self.config.train, self.recipe, world)

    def measure(self, model: Transformer, most_tokens: int | None) -> Measurement:
        """Return the scores of a model on the validation split, or on a part of it."""
        context_length = self.recipe.context_length
        return measure(
            model,
            self.corpus.val.read,
            len(self.corpus.val),
            self.corpus.byte_lengths,
            context_length=context_length,
            batch_size=max(1, 8192 // context_length),
            max_tokens=most_tokens,
        )

    def sample_prompts(self) -> list[str]:
        """Return `train.sample_prompts`, or the openings of some validation documents."""
        given = list(self.config.train.sample_prompts)
        return given or document_prompts(self.corpus.val, self.tokenizer)

    def generate_samples(self, model: Transformer, prompts: list[str]) -> list[str]:
        """Return a model's continuation of each prompt."""
        train = self.config.train
        return generate_samples(
            model,
            self.tokenizer,
            prompts,
            new_tokens=train.sample_tokens,
            seed=train.seed,
            precision=self.recipe.precision,
        )

    def save_model(self, folder: Path, model: Transformer) -> None:
        """Write a whole model with its tokenizer."""
        save_model(folder, model, self.tokenizer)

    def load_weights(self, folder: Path) -> dict[str, Tensor]:
        """Load the weights of a checkpoint.

        Shape: one tensor for each parameter, whole.
        """
        return load_tensors(folder / WEIGHTS)

    def saved_config(self) -> dict[str, Any]:
        """Return what `restore` reads: the sections that define a run, and everything derived."""
        sections = to_dict(self.config)
        return {
            "config": {name: sections[name] for name in ("model", "train", "evaluate")},
            "recipe": self.recipe.to_dict(),
            "model": self.model.config.to_hf_dict(),
            "data_fingerprint": self.data_fingerprint,
        }


def prepare(config: Config, resolve: Resolve, world: World) -> Setup:
    """Set up a new run: open the corpus, build or load the model, measure, derive the recipe.

    Raises: ConfigError, DataError or CheckpointError, before anything is written.
    """
    train = config.train
    if train.data is None:
        raise ConfigError(
            "train.data is not set",
            hint="build one with `triptych data build SOURCE --out DIR`, then set train.data=DIR",
        )
    device = probe.choose_device(train.device)
    machine = probe.probe_machine(device, train.threads)
    corpus = Corpus.open(train.data)
    start = resolve(train.init_from) if train.init_from else None
    pretrained = start is not None and is_pretrained(start)
    train = with_optimizer(train, pretrained)
    model = _model(config, corpus, start)
    recipe = _recipe(train, model, corpus, machine, world, pretrained)
    if start is not None and train.carry_state:
        read = batches_read(start, corpus.train.fingerprint, recipe.batch_tokens)
        recipe = replace(recipe, first_batch=read)
    return Setup(
        config=replace(config, train=replace(train, data=corpus.folder)),
        corpus=corpus,
        model=model,
        recipe=world.broadcast(recipe),
    )


def restore(folder: RunFolder) -> Setup:
    """Set up an existing run exactly as it began; nothing is measured or derived again.

    Raises: RunError where the folder is not a run or its corpus has changed.
    """
    saved = folder.read_config()
    try:
        config = TypeAdapter(Config).validate_python(saved["config"])
        # A recipe from before `eval_tokens` was derived used the setting as it was.
        recipe = Recipe.from_dict({"eval_tokens": config.train.eval_tokens, **saved["recipe"]})
        shape = ModelConfig.from_hf_dict(saved["model"])
        fingerprint = saved["data_fingerprint"]
    except (KeyError, ValidationError) as error:
        raise RunError(
            f"{folder.config} is not the config of a run: {error}",
            hint="start a new run; this one cannot be resumed",
        ) from error
    assert config.train.data is not None
    if not config.train.data.is_dir():
        raise RunError(
            f"the corpus of this run is not in {config.train.data} any more",
            hint=f"where was it moved? triptych train --resume {folder.path} train.data=FOLDER",
        )
    corpus = Corpus.open(config.train.data)
    if corpus.train.fingerprint != fingerprint:
        raise RunError(
            f"the corpus {corpus.folder} has changed since the run began",
            hint="build it again from the same sources and seed, or start a new run",
        )
    if recipe.threads != torch.get_num_threads():
        torch.set_num_threads(recipe.threads)
    probe.choose_device(recipe.device)
    torch.manual_seed(config.train.seed)
    return Setup(config=config, corpus=corpus, model=Transformer(shape), recipe=recipe)


def _model(config: Config, corpus: Corpus, folder: Path | None) -> Transformer:
    torch.manual_seed(config.train.seed)
    if folder is None:
        return Transformer(shape_of(config.model, corpus))
    model = load_model(folder, dtype=torch.float32).requires_grad_(True)
    theirs = load_tokenizer(folder)
    if theirs.core.get_vocab() != corpus.tokenizer.core.get_vocab():
        raise CheckpointError(
            f"the tokenizer of {config.train.init_from} is not the one of {corpus.folder}",
            hint="build the corpus again with `triptych data build SOURCE --out DIR --tokenizer "
            f"{config.train.init_from}`",
        )
    return model


def shape_of(section: ModelSection, corpus: Corpus) -> ModelConfig:
    """Return the model's shape: `model.size`, with the fields that were set by hand.

    Raises: ConfigError where the heads do not divide the width.
    """
    changes = {k: v for k, v in asdict(section).items() if k != "size" and v is not None}
    heads = changes.get("num_attention_heads")
    sized = ModelConfig.of_size(section.size)
    width = changes.get("hidden_size", sized.hidden_size)
    heads = heads or sized.num_attention_heads
    if "head_dim" not in changes:
        if width % heads:
            raise ConfigError(
                f"model.hidden_size = {width} cannot be shared by "
                f"model.num_attention_heads = {heads}",
                hint=f"use a multiple of {heads}, or set model.head_dim",
            )
        changes["head_dim"] = width // heads
    changes.setdefault("num_key_value_heads", heads)
    boundary = corpus.tokenizer.boundary_id
    return ModelConfig.of_size(
        section.size,
        **changes,
        vocab_size=corpus.train.vocab_size,
        bos_token_id=boundary,
        eos_token_id=boundary,
        pad_token_id=boundary,
    )


def _recipe(
    train: TrainConfig,
    model: Transformer,
    corpus: Corpus,
    machine: probe.Machine,
    world: World,
    pretrained: bool,
) -> Recipe:
    """Measure how fast this model trains on this machine, and derive the rest from it."""
    facts: dict[str, Any] = {
        "train_tokens": len(corpus.train),
        "val_tokens": len(corpus.val),
        "processes": world.size,
        "pretrained": pretrained,
    }
    choice = _choose(train, model, corpus, machine, world)
    recipe = derive(train, model.config, choice, **facts)
    if train.budget_s is None:
        return recipe
    alone = replace(recipe, batch_size=max(1, recipe.batch_size // world.size))
    train_step = TrainStep(deepcopy(model), corpus.train, train, alone, World())
    train_step.step(0)
    step_s = min(probe.seconds(lambda: train_step.step(1), recipe.device) for _ in range(6))
    if train.steps is not None:
        # The steps were chosen; the seconds only bound them, before the schedule is drawn.
        train = replace(train, steps=min(train.steps, max(1, int(train.budget_s / step_s))))
    choice = replace(choice, tok_per_s=recipe.batch_tokens / step_s)
    return derive(train, model.config, choice, **facts)


def _choose(
    train: TrainConfig, model: Transformer, corpus: Corpus, machine: probe.Machine, world: World
) -> HardwareChoice:
    """Time real forward and backward passes in each precision that could be fastest.

    What fsdp spreads need not fit one process: there one layer is timed, for all of them.
    """
    device = machine.device
    context = context_for(train, model.config, len(corpus.train))
    rows = max(1, (2048 if device == "cpu" else 32_768) // context)
    rows = min(rows, train.micro_batch or rows)
    spread, layers = world.size > 1 and train.parallel == "fsdp", 1
    if spread:
        layers = model.config.num_hidden_layers
        one = replace(model.config, num_hidden_layers=1, layer_types=(), no_rope_layers=())
        model = Transformer(one)
    ids = torch.randint(model.config.vocab_size, (rows, context + 1), device=device)
    formats = [train.precision] if train.precision != "auto" else ["float32"]
    if train.precision == "auto" and machine.flops_bfloat16 > machine.flops_float32:
        formats.append("bfloat16")
    model.to(device).train()
    tokens = ids[:, 1:].numel() / layers
    speeds = {name: tokens / _pass_s(model, ids, name, device) for name in formats}
    model.zero_grad(set_to_none=True)
    precision = max(speeds, key=lambda name: speeds[name])
    choice = HardwareChoice(
        device=device,
        machine=machine.name,
        threads=machine.threads,
        precision=precision,
        compile=train.compile == "on",
        machine_flops=machine.flops(precision),
        tok_per_s=speeds[precision],
    )
    planned_s = (
        train.budget_s
        or horizon_tokens(train, model.config, len(corpus.train)) / (speeds[precision])
    )
    worth = planned_s >= _COMPILE_WORTH_S and not spread
    if train.compile != "auto" or not worth or not probe.has_compiler(device):
        return choice
    compiled = deepcopy(model)
    loss = torch.compile(compiled.loss)
    compile_s = _pass_s(compiled, ids, precision, device, loss, tries=1)
    faster = ids[:, 1:].numel() / _pass_s(compiled, ids, precision, device, loss)
    pays = compile_s + planned_s * choice.tok_per_s / faster < planned_s
    return replace(choice, compile=True, tok_per_s=faster) if pays else choice


def _pass_s(
    model: Transformer,
    ids: torch.Tensor,
    precision: str,
    device: str,
    loss: Callable[..., torch.Tensor] | None = None,
    tries: int = 3,
) -> float:
    """Return the time of the fastest pass; the first one warms up and is rarely the fastest."""
    model.compute_dtype = probe.DTYPES[precision]
    work = loss or model.loss

    def once() -> None:
        work(ids[:, :-1], ids[:, 1:]).backward()  # type: ignore[no-untyped-call]

    return min(probe.seconds(once, device) for _ in range(tries))
