"""A run that was stopped, killed or robbed of its last checkpoint goes on bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from triptych.config import Config
from triptych.config.loader import to_dict
from triptych.lm.evaluate.run_history import read_run_history
from triptych.lm.train import checkpoints
from triptych.lm.train.events import Log, State
from triptych.lm.train.trainer import Trainer

from .conftest import losses, record, weights_of

Settings = Callable[..., Config]
ROUGH = ("train.dropout=0.2", "train.ema_decay=0.95", "train.micro_batch=4")


@pytest.mark.parametrize(
    ("precision", "stop_after"), [("float32", 4), ("float32", 11), ("bfloat16", 1), ("bfloat16", 7)]
)
def test_a_stopped_run_goes_on_bit_for_bit(
    settings: Settings, tmp_path: Path, precision: str, stop_after: int
) -> None:
    config = settings(f"train.precision={precision}", *ROUGH)
    record(Trainer(config, tmp_path / "straight"))
    stopped = record(Trainer(config, tmp_path / "resumed"), stop_after)
    assert stopped[-1].type == "state"
    assert read_run_history(tmp_path / "resumed").record["state"] == "stopped"
    record(Trainer.resume(tmp_path / "resumed"))
    assert losses(tmp_path / "resumed") == losses(tmp_path / "straight")
    assert list(weights_of(tmp_path / "resumed")) == list(weights_of(tmp_path / "straight"))


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_every_optimizer_goes_on_bit_for_bit(
    settings: Settings, tmp_path: Path, optimizer: str
) -> None:
    config = settings(f"train.optimizer={optimizer}", *ROUGH)
    record(Trainer(config, tmp_path / "straight"))
    record(Trainer(config, tmp_path / "resumed"), stop_after=5)
    record(Trainer.resume(tmp_path / "resumed"))
    assert losses(tmp_path / "resumed") == losses(tmp_path / "straight")
    assert list(weights_of(tmp_path / "resumed")) == list(weights_of(tmp_path / "straight"))


def test_a_resumed_run_measures_nothing_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    record(Trainer(settings("train.precision=auto"), run), stop_after=3)
    before = (run / "config.json").read_bytes()
    monkeypatch.setattr("triptych.lm.train.probe.matmul_flops", pytest.fail)
    record(Trainer.resume(run))
    assert (run / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    "damage", ["model.safetensors", "optimizer.safetensors", "trainer_state.json", "manifest.json"]
)
def test_a_torn_checkpoint_is_skipped_with_a_message(
    settings: Settings, tmp_path: Path, damage: str
) -> None:
    config = settings(*ROUGH)
    record(Trainer(config, tmp_path / "straight"))
    run = tmp_path / "torn"
    record(Trainer(config, run), stop_after=9)
    torn = run / "checkpoints/step-00000009" / damage
    torn.write_bytes(torn.read_bytes()[:-7])
    seen = record(Trainer.resume(run))
    messages = [e.message for e in seen if isinstance(e, Log) and e.level == "warning"]
    assert len(messages) == 1 and "step-00000009" in messages[0]
    assert next(e.step for e in seen if isinstance(e, State)) == 8
    assert losses(run) == losses(tmp_path / "straight")
    assert list(weights_of(run)) == list(weights_of(tmp_path / "straight"))


def test_a_run_whose_checkpoints_are_all_torn_begins_again(
    settings: Settings, tmp_path: Path
) -> None:
    config = settings(*ROUGH)
    record(Trainer(config, tmp_path / "straight"))
    run = tmp_path / "torn"
    record(Trainer(config, run), stop_after=6)
    for folder in (run / "checkpoints").glob("step-*"):
        (folder / "optimizer.safetensors").unlink()
    record(Trainer.resume(run))
    assert losses(run) == losses(tmp_path / "straight")


def test_a_continued_model_killed_before_its_first_checkpoint_keeps_its_start(
    settings: Settings, tmp_path: Path
) -> None:
    record(Trainer(settings("train.steps=20"), tmp_path / "parent"))
    start = checkpoints.read_pointer(tmp_path / "parent/checkpoints", "latest")
    config = settings(f"train.init_from={start}", "train.checkpoint_every=0")
    record(Trainer(config, tmp_path / "straight"))
    killed = Trainer(config, tmp_path / "killed").events()
    while next(killed).type != "step":
        pass
    killed.close()
    record(Trainer.resume(tmp_path / "killed"))
    assert losses(tmp_path / "killed") == losses(tmp_path / "straight")


def test_what_a_killed_process_left_half_written_is_cleared_away(
    settings: Settings, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    record(Trainer(settings(), run), stop_after=5)
    (run / "checkpoints/.step-00000008.tmp-xyz").mkdir()
    record(Trainer.resume(run))
    assert not list((run / "checkpoints").glob(".*"))


CHILD = """
import json, sys
from pathlib import Path
from pydantic import TypeAdapter
from triptych.config import Config
from triptych.lm.train.loop import run_to_end
from triptych.lm.train.trainer import Trainer

run, config = Path(sys.argv[1]), TypeAdapter(Config).validate_json(sys.argv[2])
begun = (run / "config.json").exists()
print(run_to_end(Trainer.resume(run) if begun else Trainer(config, run)))
"""


def child(run: Path, config: Config) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(run), json.dumps(to_dict(config))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_lines(path: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until a log has this many lines, or the process has ended."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.002)


def survives_kills(config: Config, tmp_path: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill a run at random moments until it was hit so often; give what was compared."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert child(straight, config).wait(timeout=170) == 0
    chance = random.Random(seed)
    hits = 0
    while hits < kills:
        process = child(killed, config)
        log = killed / "events.jsonl"
        begun = log.read_bytes().count(b"\n") if log.exists() else 0
        wait_for_lines(log, begun + chance.randint(1, 14), process)
        time.sleep(chance.random() * 0.02)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"it was over after {hits} kills"
        hits += 1
    process = child(killed, config)
    out, _ = process.communicate(timeout=170)
    assert out.strip() == "finished"
    assert losses(killed) == losses(straight)
    assert list(weights_of(killed)) == list(weights_of(straight))
    events = (killed / "events.jsonl").read_bytes().count(b"\n")
    return {
        "kills (SIGKILL)": hits,
        "steps": config.train.steps,
        "lines in the log, repetitions included": events,
        "numbered events, equal in every value": len(losses(killed)),
        "differing bytes of weights, optimizer and state": 0,
    }


def test_a_run_killed_at_random_moments_ends_the_same(settings: Settings, tmp_path: Path) -> None:
    survives_kills(settings("train.steps=16", *ROUGH), tmp_path, kills=2, seed=1)


@pytest.mark.prove
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_twenty_kills_change_nothing(
    settings: Settings, tmp_path: Path, precision: str, proven: Callable[..., None]
) -> None:
    config = settings("train.steps=240", f"train.precision={precision}", *ROUGH)
    found = survives_kills(config, tmp_path, kills=20, seed=7)
    proven("resume", f"{precision}, dropout 0.2, averaged weights", found)


def test_sigterm_finishes_the_step_saves_and_ends_well(settings: Settings, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = child(run, settings("train.steps=5000", "train.checkpoint_every=0"))
    wait_for_lines(run / "events.jsonl", 8, process)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out.strip()) == (0, "stopped")
    found, skipped = checkpoints.newest(run / "checkpoints")
    assert found is not None and not skipped
    assert found.state["step"] == read_run_history(run).steps[-1]["step"]


@pytest.mark.prove
@pytest.mark.timeout(1200)
def test_a_compiled_run_goes_on_bit_for_bit(settings: Settings, tmp_path: Path) -> None:
    config = settings("train.compile=on", "train.precision=bfloat16", *ROUGH)
    record(Trainer(config, tmp_path / "straight"))
    record(Trainer(config, tmp_path / "resumed"), stop_after=7)
    record(Trainer.resume(tmp_path / "resumed"))
    assert losses(tmp_path / "resumed") == losses(tmp_path / "straight")
    assert list(weights_of(tmp_path / "resumed")) == list(weights_of(tmp_path / "straight"))
