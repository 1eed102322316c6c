"""A small real corpus, a model that trains in milliseconds, and runs in folders."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from triptych.config import Config, load_config
from triptych.config.data import DataConfig
from triptych.lm.data.build import build_corpus
from triptych.lm.train.events import Event
from triptych.lm.train.folder import EventLog
from triptych.lm.train.trainer import Trainer
from triptych.wire.run_events import read_events

SMALL = (
    "model.size=nano",
    "model.hidden_size=32",
    "model.intermediate_size=64",
    "model.num_hidden_layers=2",
    "model.num_attention_heads=2",
    "model.max_position_embeddings=64",
    "train.context_length=32",
    "train.batch_tokens=256",
    "train.steps=12",
    "train.eval_tokens=256",
    "train.eval_every=4",
    "train.sample_every=6",
    "train.sample_tokens=4",
    "train.checkpoint_every=4",
    "train.warmup_steps=2",
    "train.threads=1",
    "train.precision=float32",
)


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The docstrings of two modules that every Python has, as many small documents."""
    texts = tmp_path_factory.mktemp("texts")
    for module in (argparse, textwrap, json):
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        for number, part in enumerate(source.split("\n\n\n")):
            (texts / f"{module.__name__}-{number:03d}.txt").write_text(part, encoding="utf-8")
    folder = tmp_path_factory.mktemp("data") / "corpus"
    build_corpus([str(texts)], folder, DataConfig(vocab_size=400, validation_frac=0.1))
    return folder


@pytest.fixture
def settings(corpus: Path) -> Callable[..., Config]:
    """Make a configuration of the small model, with some settings changed."""

    def make(*overrides: str) -> Config:
        return load_config(None, [*SMALL, f"train.data={corpus}", *overrides])

    return make


def record(trainer: Trainer, stop_after: int | None = None) -> list[Event]:
    """Run a trainer with its event log, and ask it to stop after a step."""
    seen: list[Event] = []
    log: EventLog | None = None
    for event in trainer.events():
        log = log or EventLog(trainer.folder)
        log(event)
        seen.append(event)
        if event.type == "step" and getattr(event, "step", None) == stop_after:
            trainer.request_stop()
    if log:
        log.close()
    return seen


def losses(run_dir: Path) -> list[tuple[int, int, str]]:
    """What must be equal to the last bit: every numbered event, without its timings."""
    timings = {"time_s", "train/tok_per_s", "train/mfu", "memory_bytes", "eta_s"}
    return [
        (event["seq"], event.get("step", 0), json.dumps(strip(event, timings), sort_keys=True))
        for event in read_events(run_dir / "events.jsonl")
        if event["type"] not in ("state", "log")
    ]


def strip(event: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in names}


def weights_of(run_dir: Path) -> Iterator[tuple[str, bytes]]:
    """The bytes of the latest checkpoint's tensors."""
    folder = run_dir / "checkpoints" / (run_dir / "checkpoints/latest").read_text().strip()
    for name in ("model.safetensors", "optimizer.safetensors", "trainer_state.json"):
        yield name, (folder / name).read_bytes()
