"""Going on from a run: its optimizer, its place in the data, its corpus at another place.

The ids in the names (`s3_8`, `t02`) are those of the observations that the tests came from.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from triptych.cli.main import main
from triptych.config import Config
from triptych.errors import ConfigError, RunError
from triptych.lm.evaluate.run_history import read_run_history
from triptych.lm.train.start import move_corpus
from triptych.lm.train.trainer import Trainer

from .conftest import losses, record

Settings = Callable[..., Config]
STEADY = ("train.schedule=constant", "train.warmup_steps=0", "train.sample_every=0")


def train_losses(run: Path) -> list[float]:
    return [step["train/loss"] for step in read_run_history(run).steps]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_s3_8_a_run_that_goes_on_takes_the_steps_a_longer_run_takes(
    settings: Settings, tmp_path: Path, optimizer: str
) -> None:
    steady = (*STEADY, f"train.optimizer={optimizer}")
    record(Trainer(settings(*steady, "train.steps=12"), tmp_path / "whole"))
    record(Trainer(settings(*steady, "train.steps=5"), tmp_path / "first"))
    start = tmp_path / "first/checkpoints/step-00000005"
    more = (*steady, "train.steps=4", f"train.init_from={start}", "train.carry_state=true")
    record(Trainer(settings(*more), tmp_path / "second"))
    start = tmp_path / "second/checkpoints/step-00000004"
    more = (*steady, "train.steps=3", f"train.init_from={start}", "train.carry_state=true")
    record(Trainer(settings(*more), tmp_path / "third"))
    went_on = [train_losses(tmp_path / name) for name in ("first", "second", "third")]
    assert [loss for part in went_on for loss in part] == train_losses(tmp_path / "whole")


def test_s3_8_a_run_that_goes_on_and_is_stopped_ends_the_same(
    settings: Settings, tmp_path: Path
) -> None:
    record(Trainer(settings(), tmp_path / "first"))
    start = tmp_path / "first/checkpoints/step-00000012"
    config = settings(f"train.init_from={start}", "train.carry_state=true")
    record(Trainer(config, tmp_path / "whole"))
    record(Trainer(config, tmp_path / "cut"), stop_after=6)
    record(Trainer.resume(tmp_path / "cut"))
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_s3_8_state_is_carried_only_from_a_run(settings: Settings, tmp_path: Path) -> None:
    record(Trainer(settings(), tmp_path / "first"))
    shutil.copytree(tmp_path / "first/checkpoints/step-00000012", tmp_path / "elsewhere")
    config = settings(f"train.init_from={tmp_path / 'elsewhere'}", "train.carry_state=true")
    with pytest.raises(ConfigError, match="needs a checkpoint of a run"):
        record(Trainer(config, tmp_path / "second"))


def test_t02_a_moved_corpus_is_accepted_by_its_fingerprint(
    settings: Settings, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, run = tmp_path / "old", tmp_path / "new", tmp_path / "run"
    shutil.copytree(corpus, old)
    record(Trainer(settings(f"train.data={old}"), run), stop_after=6)
    old.rename(new)
    with pytest.raises(RunError, match="is not in") as error:
        record(Trainer.resume(run))
    assert "train.data=FOLDER" in error.value.hint
    assert main(["train", "--resume", str(run), f"train.data={new}", "--quiet"]) == 0
    assert read_run_history(run).steps[-1]["step"] == 12
    assert main(["train", "--resume", str(run), "train.seed=2"]) == 2


def test_t02_another_corpus_is_refused(settings: Settings, corpus: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    record(Trainer(settings(), run))
    shutil.copytree(corpus, other)
    manifest = (other / "manifest.json").read_text()
    fingerprint = read_run_history(run).config["data_fingerprint"]
    (other / "manifest.json").write_text(manifest.replace(fingerprint, "0" * 64))
    with pytest.raises(RunError, match="another corpus"):
        move_corpus(run, other)
    assert read_run_history(run).config["config"]["train"]["data"] == str(corpus.resolve())
