"""Warnings about settings that are known to go wrong, in plain words, before a run is started.

Rules read only settings made by the user; values that the recipe derives get no warning.
"""

from __future__ import annotations

from collections.abc import Callable

from triptych.config import Config
from triptych.config.train import TrainConfig

Rule = Callable[[TrainConfig], str]


def warnings(config: Config) -> list[str]:
    """Return warnings about these settings; empty where none is known to go wrong."""
    return [text for rule in _RULES if (text := rule(config.train))]


def _optimizer(train: TrainConfig) -> str:
    """Return the optimizer that `auto` will most likely be: where a model is continued, AdamW."""
    if train.optimizer != "auto":
        return train.optimizer
    return "adamw" if train.init_from else "muon"


def _rate_too_high(train: TrainConfig) -> str:
    limit = {"adamw": 0.02, "adam": 0.02, "sgd": 2.0, "muon": 0.2}[_optimizer(train)]
    if train.learning_rate is None or train.learning_rate <= limit:
        return ""
    return (
        f"A learning rate of {train.learning_rate:g} is likely to diverge with "
        f"{_optimizer(train)}: the loss jumps up and does not come back. Stay below {limit:g}."
    )


def _rate_too_low(train: TrainConfig) -> str:
    limit = {"adamw": 1e-5, "adam": 1e-5, "sgd": 1e-3, "muon": 1e-4}[_optimizer(train)]
    if train.init_from:
        # A model that has learned much already is changed by a hundredth of these rates.
        limit /= 100
    if train.learning_rate is None or train.learning_rate >= limit:
        return ""
    return (
        f"A learning rate of {train.learning_rate:g} is so low for {_optimizer(train)} that the "
        f"loss will hardly fall. Try {100 * limit:g}."
    )


def _rate_undoes_learning(train: TrainConfig) -> str:
    limit = {"adamw": 3e-4, "adam": 3e-4, "sgd": 0.1, "muon": 0.01}[_optimizer(train)]
    if not train.init_from or train.learning_rate is None or train.learning_rate <= limit:
        return ""
    return (
        f"A learning rate of {train.learning_rate:g} with {_optimizer(train)} undoes much of what "
        f"a pretrained model has learned. Stay below {limit:g}, or leave the rate automatic."
    )


def _adam_for_muon(train: TrainConfig) -> str:
    if (
        _optimizer(train) != "muon"
        or train.init_from
        or train.learning_rate is None
        or train.learning_rate > 0.002
    ):
        return ""
    return (
        f"{train.learning_rate:g} is a learning rate for AdamW; Muon needs about 0.03. "
        "Choose adamw, or leave the rate automatic."
    )


def _warmup_fills_the_run(train: TrainConfig) -> str:
    steps, warmup = train.steps, train.warmup_steps
    if steps is None or warmup is None or warmup * 2 <= steps:
        return ""
    return (
        f"Warming up for {warmup:,} of {steps:,} steps leaves little time at the full rate. "
        f"{max(1, steps // 20):,} are enough."
    )


def _no_warmup(train: TrainConfig) -> str:
    if train.warmup_steps != 0 or train.optimizer == "sgd" or train.init_from:
        return ""
    return "Without warmup the first steps use the full learning rate; the loss may jump."


def _no_clip(train: TrainConfig) -> str:
    if train.grad_clip:
        return ""
    return "Without gradient clipping, one bad batch can ruin the model. 1 is a safe limit."


def _no_decline(train: TrainConfig) -> str:
    if train.schedule == "constant":
        return "A constant learning rate ends at a higher loss than one that decays at the end."
    if train.schedule == "wsd" and train.cooldown_frac == 0:
        return "With train.cooldown_frac=0 the learning rate never decays; the loss ends higher."
    return ""


def _average_too_long(train: TrainConfig) -> str:
    if not train.ema_decay or train.steps is None or 2 / (1 - train.ema_decay) <= train.steps:
        return ""
    return (
        f"Averaging with a decay of {train.ema_decay:g} averages about "
        f"{1 / (1 - train.ema_decay):,.0f} steps, and the run has {train.steps:,}."
    )


def _many_epochs(train: TrainConfig) -> str:
    if train.max_epochs <= 8:
        return ""
    return (
        f"Up to {train.max_epochs:g} passes over the same text: the model may memorise it "
        "(validation loss rises while training loss falls)."
    )


def _much_dropout(train: TrainConfig) -> str:
    if train.dropout is None or train.dropout <= 0.3:
        return ""
    return f"Dropping {train.dropout:.0%} of the activations slows a small model's learning much."


_RULES: tuple[Rule, ...] = (
    _rate_too_high,
    _rate_too_low,
    _rate_undoes_learning,
    _adam_for_muon,
    _warmup_fills_the_run,
    _no_warmup,
    _no_clip,
    _no_decline,
    _average_too_long,
    _many_epochs,
    _much_dropout,
)
