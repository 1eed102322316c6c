"""Two processes learn what one learns, whichever way the model is spread over them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from triptych.config import Config
from triptych.config.loader import to_dict
from triptych.lm.evaluate.journey import read_journey
from triptych.lm.train.trainer import Trainer

from .conftest import record

Settings = Callable[..., Config]

CHILD = """
import sys
from pathlib import Path
from pydantic import TypeAdapter
from triptych.config import Config
from triptych.lm.train.follow import follow
from triptych.lm.train.trainer import Trainer

run, stop_after = Path(sys.argv[1]), int(sys.argv[3])
config = TypeAdapter(Config).validate_json(Path(sys.argv[2]).read_text())
begun = (run / "config.json").exists()
trainer = Trainer.resume(run) if begun else Trainer(config, run)

def stop(event):
    if event.type == "step" and event.step == stop_after:
        trainer.request_stop()

follow(trainer, [stop])
if trainer.world.leads:
    print(type(next(trainer.learner.model.parameters())).__name__)
"""


def together(run: Path, config: Config, tmp_path: Path, stop_after: int = 0) -> str:
    """Train with two processes on this machine; give the type that the parameters had."""
    script, settings = tmp_path / "child.py", tmp_path / "config.json"
    script.write_text(CHILD)
    settings.write_text(json.dumps(to_dict(config)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(script), str(run), str(settings), str(stop_after)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def train_losses(run: Path) -> list[float]:
    return [event["train/loss"] for event in read_journey(run).steps]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_learns_and_one_goes_on(
    settings: Settings, tmp_path: Path, parallel: str
) -> None:
    config = settings(f"train.parallel={parallel}", "train.micro_batch=2", "train.ema_decay=0.9")
    record(Trainer(config, tmp_path / "one"))
    spread = together(tmp_path / "two", config, tmp_path, stop_after=6)
    assert spread == {"ddp": "Parameter", "fsdp": "DTensor"}[parallel]
    record(Trainer.resume(tmp_path / "two"))
    one, two = train_losses(tmp_path / "one"), train_losses(tmp_path / "two")
    assert two == pytest.approx(one, rel=2e-4)
    bpbs = [
        [event["val/bpb"] for event in read_journey(tmp_path / name).evals]
        for name in ("one", "two")
    ]
    assert bpbs[1] == pytest.approx(bpbs[0], rel=1e-3)


@pytest.mark.prove
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_run_of_one_goes_on_as_two(
    settings: Settings, tmp_path: Path, parallel: str, optimizer: str
) -> None:
    config = settings(f"train.parallel={parallel}", f"train.optimizer={optimizer}")
    record(Trainer(config, tmp_path / "straight"))
    record(Trainer(config, tmp_path / "run"), stop_after=6)
    together(tmp_path / "run", config, tmp_path)
    assert train_losses(tmp_path / "run") == pytest.approx(
        train_losses(tmp_path / "straight"), rel=2e-4
    )


def test_a_batch_that_cannot_be_shared_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="cannot be shared by 2 processes"):
        together(tmp_path / "run", settings("train.batch_tokens=224"), tmp_path)
    assert not (tmp_path / "run").exists()
