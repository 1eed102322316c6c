"""The recipe: every number of a run, derived from model shape, corpus and machine.

`model.size` drives it: a larger model trains on more tokens, more tokens get a larger batch, and
both change the learning rates. Every number can be set by hand in the section `train`; a number
that is set is used as it is. The resolved recipe is saved with the run and never derived again.
Left out: measuring the machine (`probe`) and using the numbers (`trainer`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, TypeVar

from triptych.config.train import TrainConfig
from triptych.errors import ConfigError, RunError
from triptych.lm.model.config import ModelConfig

T = TypeVar("T", int, float)

# Where the rules below were measured; they scale from here.
_REFERENCE_TOKENS = 5_000_000
_REFERENCE_BATCH_TOKENS = 4096
_REFERENCE_WIDTH = 384
# Exponent of the best batch in the horizon. Source: Power Lines, Bergsma et al. 2025 (2505.13738).
_BATCH_EXPONENT = 0.383

# A crash loses about this much work; a long run is evaluated at least this often.
_SAVE_S = 60.0
_WATCH_S = 600.0
_EVAL_SHARE = 0.05
_EVAL_TOKENS = 8192  # fewer would be noise


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every derived number of a run.

    Units: `batch_tokens` over all processes and accumulations; `flops_per_token` and
    `machine_flops` in floating-point operations (per second).
    """

    steps: int
    batch_tokens: int
    batch_size: int
    context_length: int
    micro_batch: int
    learning_rate: float
    embedding_lr: float
    head_lr: float
    gain_lr: float
    weight_decay: float
    warmup_steps: int
    dropout: float
    ema_decay: float
    eval_every: int
    sample_every: int
    checkpoint_every: int
    device: str
    machine: str
    threads: int
    precision: str
    compile: bool
    machine_flops: float
    flops_per_token: float
    epochs: float
    eval_tokens: int = 65_536
    pretrained_start: bool = False
    first_batch: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `config.json`."""
        return asdict(self)

    def summary(self) -> str:
        """Return one line that describes the run for a person."""
        return (
            f"{self.steps:,} steps of {self.batch_size} x {self.context_length} tokens "
            f"({self.epochs:.2g} epochs), {self.precision} on {self.device}, "
            f"{self.threads} threads{', compiled' if self.compile else ''}; "
            f"matrix products reach {self.machine_flops / 1e9:,.0f} GFLOP/s"
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Read what `to_dict` returned; a field that has a default may be missing.

        Raises: RunError where fields are missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        unread = (needed - set(values)) | (set(values) - names)
        if unread:
            raise RunError(
                "the recipe in config.json has missing or unknown fields: "
                + ", ".join(sorted(unread)),
                hint="resume with the version of triptych that started the run",
            )
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class HardwareChoice:
    """Device, precision and compilation, as measured to be fastest for this model.

    Units: `tok_per_s` of whole training steps, at the chosen precision and compilation.
    """

    device: str
    machine: str
    threads: int
    precision: str
    compile: bool
    machine_flops: float
    tok_per_s: float


def flops_per_token(model: ModelConfig, context_length: int) -> float:
    """Return the operations for one trained token, forward and backward.

    Source: PaLM, appendix B (Chowdhery et al. 2022): six per parameter of a matrix product, the
    output head included and the embedding table not, and 12 L N H T for attention.
    """
    table = model.vocab_size * model.hidden_size
    tables = table if model.tie_word_embeddings else 2 * table
    matrices = model.num_parameters - tables + table
    heads = model.num_attention_heads * model.head_dim
    return 6.0 * matrices + 12.0 * model.num_hidden_layers * heads * context_length


def context_for(train: TrainConfig, model: ModelConfig, train_tokens: int) -> int:
    """Return the sequence length: the model's, at most 1024, and shorter for a small corpus.

    Raises: ConfigError when more is asked for than the model has positions.
    """
    if train.context_length is not None:
        if train.context_length > model.max_position_embeddings:
            raise ConfigError(
                f"train.context_length = {train.context_length} is more than the model's "
                f"max_position_embeddings = {model.max_position_embeddings}",
                hint=f"set train.context_length={model.max_position_embeddings} or less",
            )
        return train.context_length
    longest = min(model.max_position_embeddings, 1024)
    while longest > 16 and longest * 8 > train_tokens:
        longest //= 2
    return longest


def horizon_tokens(train: TrainConfig, model: ModelConfig, train_tokens: int) -> float:
    """Return how many tokens to train on when neither steps nor a time budget is set."""
    table = model.vocab_size * model.hidden_size
    tables = table if model.tie_word_embeddings else 2 * table
    trained = model.num_parameters - tables + table
    return min(train.tokens_per_parameter * trained, train.max_epochs * train_tokens)


def derive(
    train: TrainConfig,
    model: ModelConfig,
    choice: HardwareChoice,
    *,
    train_tokens: int,
    val_tokens: int | None = None,
    processes: int = 1,
    pretrained: bool = False,
) -> Recipe:
    """Resolve every number that was not set by hand.

    `val_tokens` is the size of the validation split; None stands for one larger than any sample.
    `pretrained` chooses rates that do not undo what a model from elsewhere has learned.

    Raises: ConfigError when the corpus is smaller than one batch, or the batch does not divide.
    """
    train = with_optimizer(train, pretrained)
    context = context_for(train, model, train_tokens)
    tokens = _planned_tokens(train, model, choice, train_tokens)
    batch_size = _batch_size(train, tokens, context, train_tokens, processes)
    batch_tokens = batch_size * context
    steps = train.steps or max(1, round(tokens / batch_tokens))
    epochs = steps * batch_tokens / train_tokens
    noise = math.sqrt(batch_tokens / _REFERENCE_BATCH_TOKENS)
    width = math.sqrt(_REFERENCE_WIDTH / model.hidden_size)
    rates = _pretrained_rates(train, noise) if pretrained else _rates(train, noise, width)
    step_s = batch_tokens / choice.tok_per_s
    eval_tokens = _eval_tokens(train, steps * batch_tokens, val_tokens)
    watch_every = _watch_every(steps, batch_tokens, step_s, eval_tokens)
    return Recipe(
        steps=steps,
        batch_tokens=batch_tokens,
        batch_size=batch_size,
        context_length=context,
        micro_batch=_micro_batch(train, batch_size, context, choice.device, processes),
        **rates,
        warmup_steps=_given(train.warmup_steps, min(40, max(1, steps // 20))),
        dropout=_given(train.dropout, 0.1 if epochs > 4 else 0.0),
        ema_decay=_given(train.ema_decay, 0.0),
        eval_every=_given(train.eval_every, watch_every),
        # A long run samples at every fifth evaluation.
        sample_every=_given(
            train.sample_every, watch_every * (1 if steps <= 20 * watch_every else 5)
        ),
        checkpoint_every=_given(
            train.checkpoint_every, watch_every * max(1, int(_SAVE_S / (watch_every * step_s)))
        ),
        device=choice.device,
        machine=choice.machine,
        threads=choice.threads,
        precision=choice.precision,
        compile=choice.compile,
        machine_flops=choice.machine_flops,
        flops_per_token=flops_per_token(model, context),
        epochs=round(epochs, 4),
        eval_tokens=eval_tokens,
        pretrained_start=pretrained,
        first_batch=0,  # `prepare` counts what an earlier run has read
    )


def with_optimizer(train: TrainConfig, pretrained: bool) -> TrainConfig:
    """Return the settings with the optimizer that `auto` stands for."""
    if train.optimizer != "auto":
        return train
    return replace(train, optimizer="adamw" if pretrained else "muon")


def _eval_tokens(train: TrainConfig, tokens: float, val_tokens: int | None) -> int:
    """Return few enough tokens that a short run, too, can be evaluated ten times."""
    wanted = min(train.eval_tokens, max(_EVAL_TOKENS, int(tokens / 10 * _EVAL_SHARE * 3)))
    # The cost of an evaluation, and so how often one is made, follows from what there is to read.
    return wanted if val_tokens is None else max(1, min(wanted, val_tokens))


def _watch_every(steps: int, batch_tokens: int, step_s: float, eval_tokens: int) -> int:
    """Return the steps between evaluations: ten in a short run, more in a long one.

    Evaluating takes at most a twentieth of the run's time.
    """
    wanted = min(steps // 10, round(_WATCH_S / step_s))
    # Scoring a token costs a third of training on it.
    affordable = math.ceil(eval_tokens / 3 / (_EVAL_SHARE * batch_tokens))
    return max(1, wanted, min(affordable, steps))


def _planned_tokens(
    train: TrainConfig, model: ModelConfig, choice: HardwareChoice, train_tokens: int
) -> float:
    if train.budget_s is not None and train.steps is None:
        return train.budget_s * choice.tok_per_s
    return horizon_tokens(train, model, train_tokens)


def _batch_size(
    train: TrainConfig, tokens: float, context: int, train_tokens: int, processes: int
) -> int:
    """Return the sequences in one step, from the planned tokens and the size of the corpus."""
    available = (train_tokens - 1) // context
    wanted = train.batch_tokens
    if wanted is None:
        scaled = _REFERENCE_BATCH_TOKENS * (tokens / _REFERENCE_TOKENS) ** _BATCH_EXPONENT
        if train.steps is not None:
            scaled = _REFERENCE_BATCH_TOKENS
        sequences = 2 ** round(math.log2(max(1.0, scaled / context)))
        sequences = max(processes, min(sequences, available // 4 or 1))
    else:
        sequences = max(1, round(wanted / context))
    if sequences > available:
        raise ConfigError(
            f"the corpus has {train_tokens:,} training tokens, less than one batch of "
            f"{sequences} x {context} + 1",
            hint="use more text, or set a smaller train.batch_tokens or train.context_length",
        )
    if sequences % processes:
        raise ConfigError(
            f"a batch of {sequences} sequences cannot be shared by {processes} processes",
            hint=f"set train.batch_tokens to a multiple of {context * processes}",
        )
    return sequences


def _micro_batch(
    train: TrainConfig, batch_size: int, context: int, device: str, processes: int
) -> int:
    """Return the sequences in one forward pass; they divide one process's share of a batch."""
    share = batch_size // processes
    fits = 65_536 if device.startswith("cuda") else 8192
    wanted = train.micro_batch or max(1, fits // context)
    if train.micro_batch and share % train.micro_batch:
        raise ConfigError(
            f"train.micro_batch = {train.micro_batch} does not divide the {share} sequences that "
            "one process has of a batch",
            hint=f"use a divisor of {share}",
        )
    return next(size for size in range(min(wanted, share), 0, -1) if share % size == 0)


def _rates(train: TrainConfig, noise: float, width: float) -> dict[str, float]:
    """Return the peak rates, scaled with the root of the batch, and Adam's with the width.

    Source: nanochat (Karpathy 2025) for the scaling rules; the values at the reference were
    measured here, see docs/log.md.
    """
    if train.optimizer == "muon":
        rates = {
            "learning_rate": 0.02 * noise,
            "embedding_lr": 0.006 * noise * width,
            "head_lr": 0.003 * noise * width,
            "gain_lr": 0.007 * noise,
            "weight_decay": 0.1,
        }
    else:
        rate = (0.1 if train.optimizer == "sgd" else 0.002 * width) * noise
        rates = dict.fromkeys(("learning_rate", "embedding_lr", "head_lr", "gain_lr"), rate)
        rates["weight_decay"] = 0.1 if train.optimizer == "adamw" else 0.0
    return _chosen(train, rates)


def _pretrained_rates(train: TrainConfig, noise: float) -> dict[str, float]:
    """Return the peak rates for going on from a pretrained model, scaled with the batch's root.

    Source: measured on SmolLM2-135M, see docs/log.md: AdamW at 2e-5 with 512 tokens a step lowers
    the loss on new text and on other text, where the rates for new weights raise both.
    """
    small = 5.5e-5 * noise
    rates = dict.fromkeys(("learning_rate", "embedding_lr", "head_lr", "gain_lr"), small)
    rates["weight_decay"] = 0.01 if train.optimizer in ("muon", "adamw") else 0.0
    if train.optimizer == "muon":
        rates["learning_rate"] = 0.001 * noise
    elif train.optimizer == "sgd":
        rates = dict.fromkeys(rates, 50 * small) | {"weight_decay": 0.0}
    return _chosen(train, rates)


def _chosen(train: TrainConfig, rates: dict[str, float]) -> dict[str, float]:
    """Return the rates with those set by hand; an optimizer other than Muon has only one."""
    chosen = {name: _given(getattr(train, name), value) for name, value in rates.items()}
    if train.optimizer != "muon":
        chosen |= dict.fromkeys(("embedding_lr", "head_lr", "gain_lr"), chosen["learning_rate"])
    return chosen


def _given(value: T | None, derived: T) -> T:
    return derived if value is None else value
