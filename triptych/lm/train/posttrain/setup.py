"""From a configuration to everything post-training needs: base, adapter, rows, reference, recipe.

A checkpoint of an adapter run holds the adapter alone, in PEFT's layout. The log-probabilities of
the reference model (the model as the run begins) are computed once and kept in the run folder.
Left out: the steps (`step`) and the run itself (`lm/train/trainer`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from triptych.config import Config
from triptych.config.loader import to_dict
from triptych.errors import ConfigError, RunError
from triptych.lm.data.conversations.dataset import Examples, read_examples
from triptych.lm.evaluate.loss import Measurement
from triptych.lm.model import lora
from triptych.lm.model.adapter_record import AdapterRecord, template_sha256, write_record
from triptych.lm.model.checkpoint import WEIGHTS, load_tokenizer, save_model
from triptych.lm.model.manifest import write_manifest
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import Transformer
from triptych.lm.train import probe
from triptych.lm.train.checkpoints import load_tensors
from triptych.lm.train.distribution import World
from triptych.lm.train.folder import RunFolder
from triptych.lm.train.optimizer_step import OptimizerStep
from triptych.lm.train.posttrain import recipe as recipes
from triptych.lm.train.posttrain.base import (
    Base,
    find_base,
    load_base,
    lora_config,
)
from triptych.lm.train.posttrain.evaluate import Evaluator
from triptych.lm.train.posttrain.general import General
from triptych.lm.train.posttrain.probe import probe_texts, take_probe
from triptych.lm.train.posttrain.reference import Reference
from triptych.lm.train.posttrain.samples import answer_prompts, first_prompts
from triptych.lm.train.posttrain.step import DpoStep, KtoStep, SftStep
from triptych.lm.train.recipe import Recipe
from triptych.lm.train.run_setup import RunSetup
from triptych.lm.train.setup import Resolve

_SECTIONS = ("model", "train", "lora", "posttrain", "evaluate")


class PosttrainSetup(RunSetup):
    """Everything SFT, DPO or KTO needs before its first step."""

    def __init__(
        self,
        config: Config,
        base: Base,
        model: Transformer,
        tokenizer: Tokenizer,
        train: Examples,
        val: Examples,
        recipe: Recipe,
        run_dir: Path | None = None,
    ) -> None:
        self.kind = config.train.method
        self.config, self.base, self.model, self.tokenizer = config, base, model, tokenizer
        self.train, self.val, self.recipe = train, val, recipe
        self.is_adapter = config.train.adapter == "lora"
        if self.is_adapter:
            _store_frozen(model, probe.DTYPES[recipe.precision])
        model.compute_dtype = probe.DTYPES[recipe.precision]
        self._probe_texts = probe_texts(tokenizer) if self.is_adapter else []
        self.reference = Reference(self.kind, train, val, tokenizer, recipe)
        if run_dir is not None:
            self.reference.load(run_dir)
        self.general = General(config.posttrain.general_data, tokenizer)
        self.general.check(config.posttrain.replay_frac)
        self._evaluator = Evaluator(
            self.kind, val, tokenizer, recipe, config.posttrain,
            self.general.measured, self.reference.val_mismatched,
        )  # fmt: skip

    @property
    def data_fingerprint(self) -> str:
        """Return the hash of the rows that are trained on."""
        return self.train.fingerprint

    @property
    def val_tokens(self) -> int:
        """Return how many tokens the whole validation split scores."""
        return sum(row.answer.trained for row in self.val.rows)

    def begin(self, run_dir: Path) -> list[str]:
        """Compute the reference's log-probabilities and keep them; describe the data."""
        self.reference.compute(self.model, run_dir)
        held_out = "the same rows: too few prompts to hold some out"
        if self.val.rows is not self.train.rows:
            held_out = f"{len(self.val.rows):,} held-out rows"
        return [*self.train.report(), f"evaluated on {held_out}"]

    def make_step(self, world: World) -> OptimizerStep:
        """Return what takes the steps."""
        rows, recipe = self.train.rows, self.recipe
        self.model.to(recipe.device)
        shared = self.model, rows, self.config, recipe, self.general
        if self.kind == "dpo":
            return DpoStep(*shared, self.reference.train_logps(self.model))
        if self.kind == "kto":
            logps, others = self.reference.train_logps(self.model), self.reference.mismatched
            return KtoStep(*shared, others, logps)
        return SftStep(*shared)

    def measure(self, model: Transformer, most_tokens: int | None) -> Measurement:
        """Return the scores of a model on the validation rows, or on the first of them."""
        return self._evaluator.measure(model, self.reference.val_logps(self.model), most_tokens)

    def sample_prompts(self) -> list[str]:
        """Return `train.sample_prompts`, or the last words of some validation prompts."""
        given = list(self.config.train.sample_prompts)
        return given or [str(p[-1]["content"]) for p in first_prompts(self.val.rows)]

    def generate_samples(self, model: Transformer, prompts: list[str]) -> list[str]:
        """Return a model's answer to each prompt."""
        given = self.config.train.sample_prompts
        chats = [[{"role": "user", "content": text}] for text in given]
        return answer_prompts(
            model,
            self.tokenizer,
            chats or first_prompts(self.val.rows),
            new_tokens=self.config.train.sample_tokens,
            precision=self.recipe.precision,
        )

    def save_model(self, folder: Path, model: Transformer) -> None:
        """Write the adapter alone, or the whole model."""
        if not self.is_adapter:
            save_model(folder, model, self.tokenizer)
            return
        lora.save_lora(folder, model, self.base.reference)
        record = AdapterRecord(
            base=self.base.reference,
            base_sha256=self.base.sha256,
            template_sha256=template_sha256(self.tokenizer),
            probe=take_probe(model, self._probe_texts),
        )
        write_record(folder, record)
        write_manifest(folder)

    def load_weights(self, folder: Path) -> dict[str, Tensor]:
        """Load the adapter or the whole model of a checkpoint.

        Shape: one tensor for each trained parameter, under the parameter's name.
        """
        if self.is_adapter:
            return lora.read_lora_parameters(folder)
        return load_tensors(folder / WEIGHTS)

    def checkpoint_bytes(self) -> int:
        """Return the size of what is trained."""
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        return sum(weight.numel() * weight.element_size() for weight in trained)

    def saved_config(self) -> dict[str, Any]:
        """Return what `restore` reads: sections, base, hashes and everything derived."""
        sections = to_dict(self.config)
        return {
            "config": {name: sections[name] for name in _SECTIONS},
            "recipe": self.recipe.to_dict(),
            "model": self.model.config.to_hf_dict(),
            "base": self.base.to_dict(),
            "template_sha256": template_sha256(self.tokenizer),
            "data_fingerprint": self.data_fingerprint,
            "val_fingerprint": self.val.fingerprint,
            "general_sha256": self.general.sha256,
        }


def prepare(config: Config, resolve: Resolve, world: World) -> PosttrainSetup:
    """Set up a new run: find the base, read and encode the rows, derive the recipe.

    Raises: ConfigError, DataError or CheckpointError, before anything is written.
    """
    train = config.train
    if world.size > 1:
        raise ConfigError(
            f"train.method={train.method} runs in one process, not {world.size}",
            hint="start it without torchrun",
        )
    if train.data is None:
        raise ConfigError(
            "train.data is not set", hint="set train.data=FILE.jsonl, with one row a line"
        )
    if train.optimizer == "muon" and train.adapter == "lora":
        raise ConfigError(
            "train.optimizer=muon is made for whole matrices, not for the factors of an adapter",
            hint="set train.optimizer=adamw, or leave it at auto",
        )
    optimizer = "adamw" if train.optimizer == "auto" else train.optimizer
    val_data, general = config.posttrain.val_data, config.posttrain.general_data
    config = replace(
        config,
        train=replace(train, data=train.data.expanduser().resolve(), optimizer=optimizer),
        posttrain=replace(
            config.posttrain,
            val_data=val_data and val_data.expanduser().resolve(),
            general_data=general and general.expanduser().resolve(),
        ),
    )
    device = probe.choose_device(train.device)
    machine = probe.probe_machine(device, train.threads)
    base = find_base(train.init_from, resolve)
    adapter = lora_config(config.lora) if train.adapter == "lora" else None
    tokenizer = load_tokenizer(base.folder)
    model = load_base(base, adapter, train.seed)
    context = recipes.context_for(config, model.config)
    rows, val = _rows(config, tokenizer, context)
    recipe = recipes.derive(config, model.config, machine, rows.rows, context)
    return PosttrainSetup(config, base, model, tokenizer, rows, val, recipe)


def restore(folder: RunFolder) -> PosttrainSetup:
    """Set up an existing run exactly as it began; nothing is measured or derived again.

    Raises: RunError where the folder is not a run, or its rows or its base have changed.
    """
    saved = folder.read_config()
    try:
        config = TypeAdapter(Config).validate_python(saved["config"])
        recipe = Recipe.from_dict(saved["recipe"])
        base = Base.from_dict(saved["base"])
        fingerprints = saved["data_fingerprint"], saved["val_fingerprint"]
        template = saved["template_sha256"]
    except (KeyError, TypeError, ValidationError) as error:
        raise RunError(
            f"{folder.config} is not the config of a run: {error}",
            hint="start a new run; this one cannot be resumed",
        ) from error
    if recipe.threads != torch.get_num_threads():
        torch.set_num_threads(recipe.threads)
    probe.choose_device(recipe.device)
    tokenizer = load_tokenizer(base.folder)
    rows, val = _rows(config, tokenizer, recipe.context_length)
    if (rows.fingerprint, val.fingerprint) != fingerprints:
        raise RunError(
            f"the rows of {config.train.data} have changed since the run began",
            hint="bring the file back as it was, or start a new run",
        )
    if template_sha256(tokenizer) != template:
        raise RunError(
            f"the chat template of {base.folder} has changed since the run began",
            hint="bring it back, or start a new run",
        )
    adapter = lora_config(config.lora) if config.train.adapter == "lora" else None
    model = load_base(base, adapter, config.train.seed)
    setup = PosttrainSetup(config, base, model, tokenizer, rows, val, recipe, folder.path)
    if setup.general.sha256 != saved.get("general_sha256", setup.general.sha256):
        raise RunError(
            f"the text {config.posttrain.general_data} has changed since the run began",
            hint="bring the file back as it was, or start a new run",
        )
    return setup


def _rows(config: Config, tokenizer: Tokenizer, context: int) -> tuple[Examples, Examples]:
    """Read the rows to train on and those to evaluate on."""
    method, settings = config.train.method, config.posttrain
    assert config.train.data is not None and method != "pretrain"
    rows = read_examples(config.train.data, tokenizer, kind=method, context_length=context)
    if settings.val_data is None:
        return rows.split(settings.val_frac, config.train.seed)
    val = read_examples(settings.val_data, tokenizer, kind=method, context_length=context)
    return rows, val


def _store_frozen(model: Transformer, dtype: torch.dtype) -> None:
    """Keep frozen weights in the precision of the products, which saves a cast at each use."""
    for weight in model.parameters():
        if not weight.requires_grad:
            weight.data = weight.data.to(dtype)
