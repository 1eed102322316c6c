"""The weights a run starts from: new ones, those of another run here, or a pretrained model's.

A pretrained model that comes from elsewhere has learned far more than a run here will teach it, and
large steps undo that; the recipe uses other rates for it. Left out: the rates (`recipe`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


def is_pretrained(folder: Path) -> bool:
    """Return whether a model folder is no checkpoint of a run here that began from new weights.

    A run that itself continued a pretrained model passes that on to the runs continued from it.
    """
    run_dir = folder.resolve().parent.parent
    if folder.resolve().parent.name != "checkpoints":
        return True
    try:
        saved = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))
        return bool(saved["recipe"].get("pretrained_start", False))
    except (OSError, ValueError, KeyError, AttributeError):
        return True


@dataclass
class StartLoss:
    """The validation loss of a continued model before its first step, until it was compared.

    Units: nats per token.
    """

    loss: float | None = None

    def compare(self, step: int, loss: float, warmup_steps: int) -> str:
        """Return a warning where the first evaluation after the warmup is worse than the start."""
        if step == 0:
            self.loss = loss
        if self.loss is None or step <= warmup_steps:
            return ""
        start, self.loss = self.loss, None
        if loss <= start:
            return ""
        return (
            f"the model is worse than before its first step: val/loss {start:.4f} then, {loss:.4f} "
            f"after step {step:,}; a smaller train.learning_rate keeps what it has learned"
        )
