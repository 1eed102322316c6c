"""The best checkpoint: saved when it is found, kept, and the same after any interruption.

The ids in the names (`s3_1`, `s3_13`) are those of the observations that the tests came from.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from triptych.cli.resolve import resolve
from triptych.config import Config
from triptych.config.train import TrainConfig
from triptych.hub.record import find_checkpoint, read_record
from triptych.lm.evaluate.report import write_report
from triptych.lm.evaluate.run_history import read_run_history
from triptych.lm.model.config import ModelConfig
from triptych.lm.train.recipe import HardwareChoice, derive
from triptych.lm.train.trainer import Trainer

from .conftest import losses, record

Settings = Callable[..., Config]
# The rate makes the loss fall, then rise; no checkpoint is due before the last step.
OVERFITTING = (
    "train.learning_rate=0.6",
    "train.embedding_lr=0.2",
    "train.schedule=constant",
    "train.batch_tokens=64",
    "train.steps=60",
    "train.eval_every=6",
    "train.checkpoint_every=0",
    "train.sample_every=0",
    "train.keep_last=1",
    "train.warmup_steps=30",
)


def best_step(run: Path) -> int:
    """The step of the lowest evaluation after the start."""
    evals = [event for event in read_run_history(run).evals if event["step"]]
    return int(min(evals, key=lambda event: event["val/loss"])["step"])


def is_best_everywhere(run: Path) -> None:
    name = f"step-{best_step(run):08d}"
    assert (run / "checkpoints/best").read_text().strip() == name
    assert resolve(str(run)).name == find_checkpoint(run).name == name
    found = read_record(find_checkpoint(run)).evaluation
    assert found is not None
    assert found.loss == min(e["val/loss"] for e in read_run_history(run).evals if e["step"])


def test_s3_1_the_best_is_saved_when_it_is_found(settings: Settings, tmp_path: Path) -> None:
    run = tmp_path / "run"
    record(Trainer(settings(*OVERFITTING), run))
    assert best_step(run) < 60, "the test needs a run whose last step is not its best"
    is_best_everywhere(run)


def test_s3_1_early_stopping_leaves_the_best_and_reads_the_whole_split(
    settings: Settings, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    record(Trainer(settings(*OVERFITTING, "train.early_stopping=2"), run))
    history = read_run_history(run)
    assert history.steps[-1]["step"] < 60
    is_best_everywhere(run)
    assert "val_whole/loss" in history.evals[-1]


@pytest.mark.parametrize("moment", ["before the pointer", "after the pointer"])
def test_s3_1_a_run_killed_around_its_best_ends_with_the_same_best(
    settings: Settings, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(*OVERFITTING)
    record(Trainer(config, tmp_path / "whole"))
    run = tmp_path / "killed"
    trainer = Trainer(config, run)
    point = trainer._point_best

    def killed(step: int) -> None:
        if moment == "after the pointer":
            point(step)
        if step >= 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "_point_best", killed)
    with pytest.raises(KeyboardInterrupt):
        record(trainer)
    record(Trainer.resume(run))
    assert losses(run) == losses(tmp_path / "whole")
    is_best_everywhere(run)


def test_s3_1_evaluations_are_as_many_as_their_real_cost_allows() -> None:
    choice = HardwareChoice(
        device="cpu", machine="", threads=2, precision="float32", compile=False,
        machine_flops=1e11, tok_per_s=20_000.0,
    )  # fmt: skip
    recipe = derive(
        TrainConfig(steps=300, batch_tokens=512, context_length=128),
        ModelConfig.of_size("nano"),
        choice,
        train_tokens=3_375,
        val_tokens=106,
    )
    assert recipe.eval_every == 30, "106 tokens are cheap; ten evaluations, not three"
    assert recipe.eval_tokens == 106


def test_s3_13_a_curve_has_one_measure_and_the_whole_split_its_own_name(
    settings: Settings, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    trainer = Trainer(settings(), run)
    record(trainer)
    evals = read_run_history(run).evals
    assert {event["val/tokens"] for event in evals} == {256}
    last = evals[-1]
    whole = len(trainer.setup.corpus.val) - 1
    assert last["val_whole/tokens"] == whole > 256
    assert last["val_whole/loss"] == trainer._score(None).loss != last["val/loss"]
    assert all("val_whole/loss" not in event for event in evals[:-1])
    write_report(run)
    report = json.loads((run / "report.json").read_text())
    assert (report["val/tokens"], report["val/loss"]) == (whole, last["val_whole/loss"])
