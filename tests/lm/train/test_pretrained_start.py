"""Going on from pretrained weights: small steps, and a warning when it gets worse.

The id in the names (`s3_2`) is that of the observation that the tests came from.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from triptych.config import Config
from triptych.config.train import TrainConfig
from triptych.lm.model.config import ModelConfig
from triptych.lm.runs.advice import warnings
from triptych.lm.train import checkpoints
from triptych.lm.train.events import Eval, Event, Log
from triptych.lm.train.recipe import derive
from triptych.lm.train.trainer import Trainer

from .conftest import record
from .test_recipe import CHOICE

Settings = Callable[..., Config]


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Path:
    """A trained model in a folder of its own, as one from elsewhere is."""
    record(Trainer(settings("train.steps=40"), tmp_path / "first"))
    latest = checkpoints.read_pointer(tmp_path / "first/checkpoints", "latest")
    assert latest
    return Path(shutil.copytree(latest, tmp_path / "elsewhere"))


def started(seen: list[Event]) -> list[float]:
    return [event.loss for event in seen if isinstance(event, Eval)]


def test_s3_2_a_model_from_elsewhere_goes_on_without_harm(
    settings: Settings, start: Path, tmp_path: Path
) -> None:
    trainer = Trainer(settings(f"train.init_from={start}"), tmp_path / "second")
    seen = record(trainer)
    losses = started(seen)
    assert trainer.setup.recipe.pretrained_start
    assert trainer.setup.config.train.optimizer == "adamw"
    assert trainer.setup.recipe.learning_rate < 1e-4
    assert losses[-1] < losses[0], "it learns"
    assert not [event for event in seen if isinstance(event, Log) and event.level == "warning"]


def test_s3_2_a_run_of_ours_goes_on_at_its_own_rates(settings: Settings, tmp_path: Path) -> None:
    record(Trainer(settings(), tmp_path / "first"))
    own = checkpoints.read_pointer(tmp_path / "first/checkpoints", "latest")
    trainer = Trainer(settings(f"train.init_from={own}"), tmp_path / "second")
    record(trainer)
    assert not trainer.setup.recipe.pretrained_start
    assert trainer.setup.config.train.optimizer == "muon"


def test_s3_2_what_continued_a_pretrained_model_passes_that_on(
    settings: Settings, start: Path, tmp_path: Path
) -> None:
    record(Trainer(settings(f"train.init_from={start}"), tmp_path / "second"))
    own = checkpoints.read_pointer(tmp_path / "second/checkpoints", "latest")
    trainer = Trainer(settings(f"train.init_from={own}"), tmp_path / "third")
    record(trainer)
    assert trainer.setup.recipe.pretrained_start


def test_s3_2_a_start_that_gets_worse_is_said_with_both_losses(
    settings: Settings, start: Path, tmp_path: Path
) -> None:
    config = settings(f"train.init_from={start}", "train.learning_rate=0.5")
    trainer = Trainer(config, tmp_path / "second")
    seen = record(trainer)
    losses = started(seen)
    said = [event.message for event in seen if isinstance(event, Log) and event.level == "warning"]
    assert len(said) == 1
    assert f"{losses[0]:.4f}" in said[0] and f"{losses[1]:.4f}" in said[0]
    best = checkpoints.read_pointer(tmp_path / "second/checkpoints", "best")
    assert best is not None and best.name == checkpoints.checkpoint_name(0), "the start is best"


def test_s3_2_the_recipe_for_pretrained_weights_has_small_rates() -> None:
    model = ModelConfig.of_size("small")
    train = TrainConfig(steps=15)
    scratch = derive(train, model, CHOICE, train_tokens=10**9)
    gentle = derive(train, model, CHOICE, train_tokens=10**9, pretrained=True)
    assert scratch.learning_rate > 0.01
    assert 1e-5 < gentle.learning_rate < 1e-4
    assert gentle.embedding_lr == gentle.head_lr == gentle.gain_lr == gentle.learning_rate


def test_s3_14c_an_optimizer_of_one_rate_records_one() -> None:
    train = TrainConfig(optimizer="adamw", learning_rate=2e-5, steps=15)
    recipe = derive(train, ModelConfig.of_size("nano"), CHOICE, train_tokens=10**9)
    assert recipe.embedding_lr == recipe.head_lr == recipe.gain_lr == 2e-5


def test_s3_2_advice_knows_a_pretrained_start() -> None:
    def advice(**train: object) -> list[str]:
        return warnings(Config(train=TrainConfig(init_from="owner/model", **train)))  # type: ignore[arg-type]

    assert advice(optimizer="adamw", learning_rate=5e-6) == []
    assert "undoes" in advice(optimizer="adamw", learning_rate=1e-3)[0]
    assert "undoes" in advice(optimizer="muon", learning_rate=0.02)[0]
