"""Every number of a post-training run, derived from the rows, the model and the machine.

Left out: pretraining's numbers (`lm/train/recipe`), which follow from a corpus.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from triptych.config import Config
from triptych.errors import ConfigError
from triptych.lm.data.conversations.dataset import Example
from triptych.lm.model.config import ModelConfig
from triptych.lm.train.probe import Machine
from triptych.lm.train.recipe import Recipe, flops_per_token

#: Rows of a step where there are enough of them.
_BATCH_ROWS = 16
#: Peak rates with an adapter and without.
_RATES = {"sft": (2e-4, 2e-5), "dpo": (5e-5, 1e-6), "kto": (5e-5, 1e-6)}
_LONGEST = 1024


def context_for(config: Config, model: ModelConfig) -> int:
    """Return the most tokens a row may have.

    Raises: ConfigError when more is asked for than the model has positions.
    """
    wanted, positions = config.train.context_length, model.max_position_embeddings
    if wanted is not None and wanted > positions:
        raise ConfigError(
            f"train.context_length = {wanted} is more than the model's "
            f"max_position_embeddings = {positions}",
            hint=f"set train.context_length={positions} or less",
        )
    return wanted or min(positions, _LONGEST)


def derive(
    config: Config, model: ModelConfig, machine: Machine, rows: Sequence[Example], context: int
) -> Recipe:
    """Resolve every number that was not set by hand."""
    train, settings = config.train, config.posttrain
    count = len(rows)
    tokens = sum(row.tokens for row in rows)
    batch_rows = settings.batch_rows or max(1, min(_BATCH_ROWS, count // 4))
    steps = train.steps or max(1, math.ceil(train.max_epochs * count / batch_rows))
    watch_every = max(1, steps // 10)
    adapter = train.adapter == "lora"
    rate = train.learning_rate or _RATES[train.method][0 if adapter else 1]
    precision = train.precision
    if precision == "auto":
        faster = machine.flops_bfloat16 > machine.flops_float32
        precision = "bfloat16" if faster else "float32"
    mean_tokens = max(1, round(tokens / count))
    flops = flops_per_token(model, mean_tokens)
    return Recipe(
        steps=steps,
        batch_tokens=mean_tokens * batch_rows,
        batch_size=batch_rows,
        context_length=context,
        micro_batch=_micro_batch(train.micro_batch, batch_rows, rows, machine.device),
        learning_rate=rate,
        embedding_lr=rate,
        head_lr=rate,
        gain_lr=rate,
        weight_decay=train.weight_decay or 0.0,
        warmup_steps=_set(train.warmup_steps, min(40, max(1, steps // 20))),
        dropout=train.dropout or 0.0,
        ema_decay=train.ema_decay or 0.0,
        eval_every=_set(train.eval_every, watch_every),
        sample_every=_set(train.sample_every, watch_every * 5),
        checkpoint_every=_set(train.checkpoint_every, watch_every),
        device=machine.device,
        machine=machine.name,
        threads=machine.threads,
        precision=precision,
        compile=False,
        machine_flops=machine.flops(precision),
        # A frozen weight needs no gradient of its own: two products of three are left.
        flops_per_token=flops * 2 / 3 if adapter else flops,
        epochs=round(steps * batch_rows / count, 4),
        eval_tokens=train.eval_tokens,
    )


def _micro_batch(given: int | None, batch_rows: int, rows: Sequence[Example], device: str) -> int:
    """Return the rows of one forward pass: as many of the longest as fit."""
    fits = 32_768 if device.startswith("cuda") else 4096
    longest = max(row.tokens for row in rows)
    return min(batch_rows, given or max(1, fits // longest))


def _set(value: int | None, derived: int) -> int:
    return derived if value is None else value
