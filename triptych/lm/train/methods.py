"""Which kind of training a configuration asks for, and its setup: one dispatch for every caller."""

from __future__ import annotations

from triptych.config import Config
from triptych.lm.train import setup as pretraining
from triptych.lm.train.distribution import World
from triptych.lm.train.folder import RunFolder
from triptych.lm.train.posttrain import setup as posttraining
from triptych.lm.train.run_setup import RunSetup
from triptych.lm.train.setup import Resolve


def prepare(config: Config, resolve: Resolve, world: World) -> RunSetup:
    """Set up a new run of the method that `train.method` names.

    Raises: ConfigError, DataError or CheckpointError, before anything is written.
    """
    if config.train.method == "pretrain":
        return pretraining.prepare(config, resolve, world)
    return posttraining.prepare(config, resolve, world)


def restore(folder: RunFolder) -> RunSetup:
    """Set up an existing run exactly as it began.

    Raises: RunError where the folder is not a run or its data has changed.
    """
    saved = folder.read_config()
    method = saved.get("config", {}).get("train", {}).get("method", "pretrain")
    return pretraining.restore(folder) if method == "pretrain" else posttraining.restore(folder)
