"""What a run starts from: new weights, those of another run here, or a pretrained model's.

Also a corpus that was moved since the run began.

A pretrained model that comes from elsewhere has learned far more than a run here will teach it, and
large steps undo that; the recipe uses other rates for it. Left out: the rates (`recipe`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.config.train import TrainConfig
from triptych.errors import ConfigError, RunError
from triptych.lm.data.manifest import load_manifest
from triptych.lm.model.checkpoint import WEIGHTS
from triptych.lm.train.checkpoints import STATE, TENSORS, load_tensors
from triptych.lm.train.folder import RunFolder
from triptych.lm.train.optimizer_step import OptimizerStep


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


def batches_read(folder: Path, fingerprint: str, batch_tokens: int) -> int:
    """Return how many batches of a corpus a run, and those it went on from, had read.

    0 where the run read another corpus.

    Raises: ConfigError where the folder is no checkpoint of a run here.
    """
    saved, state = _parent(folder)
    if saved["data_fingerprint"] != fingerprint:
        return 0
    recipe = saved["recipe"]
    batches = state["step"] + recipe.get("first_batch", 0)
    # A part of a batch that was read is not read again.
    return -(-batches * recipe["batch_tokens"] // batch_tokens)


def carry_optimizer(train_step: OptimizerStep, train: TrainConfig, folder: Path) -> None:
    """Load the optimizer's state of a checkpoint; nothing where its run used another optimizer.

    Raises: ConfigError where the folder is no checkpoint of a run here.
    """
    saved, _ = _parent(folder)
    if saved["config"]["train"]["optimizer"] == train.optimizer:
        train_step.load_state(load_tensors(folder / WEIGHTS), load_tensors(folder / TENSORS))


def _parent(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = folder.resolve()
    try:
        saved = json.loads((folder.parent.parent / "config.json").read_text(encoding="utf-8"))
        return saved, json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"train.carry_state needs a checkpoint of a run; {folder.name} is not one",
            hint="leave it out: train.carry_state=false starts a new optimizer",
        ) from error


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


def move_corpus(run_dir: Path, data: Path) -> None:
    """Write into a run's config that its corpus is in another folder now.

    Raises: RunError where that is another corpus; DataError where it is none of ours; StorageError
        where the run is live.
    """
    folder = RunFolder(run_dir)
    saved = folder.read_config()
    found = load_manifest(data)["fingerprint"]
    if found != saved["data_fingerprint"]:
        raise RunError(
            f"{data} is another corpus than the run {folder.path.name} began with: its fingerprint "
            f"is {found:.12}, not {saved['data_fingerprint']:.12}",
            hint="name the folder that the corpus was moved to, or start a new run",
        )
    saved["config"]["train"]["data"] = str(data.resolve())
    lock = folder.lock()
    lock.acquire()
    try:
        folder.write_config({name: saved[name] for name in saved if name != "format_version"})
    finally:
        lock.release()
