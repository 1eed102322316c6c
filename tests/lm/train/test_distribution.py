"""Two processes learn what one learns, whichever way the model is spread over them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from triptych.config import Config
from triptych.config.loader import to_dict
from triptych.lm.evaluate.run_history import read_run_history
from triptych.lm.train.trainer import Trainer

from .conftest import record

Settings = Callable[..., Config]

CHILD = """
import sys
from pathlib import Path
from pydantic import TypeAdapter
from triptych.config import Config
from triptych.lm.train.loop import run_to_end
from triptych.lm.train.trainer import Trainer

run, stop_after = Path(sys.argv[1]), int(sys.argv[3])
config = TypeAdapter(Config).validate_json(Path(sys.argv[2]).read_text())
begun = (run / "config.json").exists()
trainer = Trainer.resume(run) if begun else Trainer(config, run)

def stop(event):
    if event.type == "step" and event.step == stop_after:
        trainer.request_stop()

run_to_end(trainer, [stop])
if trainer.world.is_main:
    print(type(next(trainer.train_step.model.parameters())).__name__)
"""


def together(run: Path, config: Config, tmp_path: Path, stop_after: int = 0) -> str:
    """Train with two processes on this machine; give the type that the parameters had."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return run_script(CHILD, command, run, config, stop_after, beside=tmp_path)


def run_script(
    text: str,
    command: list[str],
    run: Path,
    config: Config,
    number: int,
    beside: Path | None = None,
) -> str:
    """Run a script in several processes with a folder, a configuration and a number."""
    script, settings = (beside or run) / "child.py", (beside or run) / "config.json"
    script.write_text(text)
    settings.write_text(json.dumps(to_dict(config)))
    done = subprocess.run(
        [*command, str(script), str(run), str(settings), str(number)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def train_losses(run: Path) -> list[float]:
    return [event["train/loss"] for event in read_run_history(run).steps]


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
        [event["val/bpb"] for event in read_run_history(tmp_path / name).evals]
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


READER = """
import sys
from pathlib import Path
import numpy as np
import torch
from pydantic import TypeAdapter
from triptych.config import Config
from triptych.lm.train.trainer import Trainer

out, steps = Path(sys.argv[1]), int(sys.argv[3])
config = TypeAdapter(Config).validate_json(Path(sys.argv[2]).read_text())
trainer = Trainer(config, out / "run")
events = trainer.events()
next(events)
rank, read = trainer.world.rank, trainer.train_step._micro_batches
rows = [torch.cat([inputs for inputs, _ in read(step)]).numpy() for step in range(steps)]
np.save(out / f"{trainer.world.size}-{rank}.npy", np.stack(rows))
events.close()
"""


@pytest.mark.prove
def test_two_processes_read_the_rows_that_one_reads(
    settings: Settings, tmp_path: Path, proven: Callable[..., None]
) -> None:
    steps, config = 200, settings("train.steps=200")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    for size in (1, 2):
        (tmp_path / str(size)).mkdir()
        run_script(
            READER, [*launcher, f"--nproc-per-node={size}"], tmp_path / str(size), config, steps
        )
    alone = np.load(tmp_path / "1" / "1-0.npy")
    shared = [np.load(tmp_path / "2" / f"2-{rank}.npy") for rank in range(2)]
    assert np.array_equal(np.concatenate(shared, axis=1), alone)
    proven(
        "resume",
        "data order, 1 process against 2",
        {"batches": steps, "tokens": int(alone.size), "differing tokens": 0},
    )


def test_a_batch_that_cannot_be_shared_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="cannot be shared by 2 processes"):
        together(tmp_path / "run", settings("train.batch_tokens=224"), tmp_path)
    assert not (tmp_path / "run").exists()
