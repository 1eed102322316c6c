"""A run of a small model on a small real corpus, trained once."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path

import pytest
import torch

from triptych.config import load_config
from triptych.config.data import DataConfig
from triptych.lm.data.build import build_corpus
from triptych.lm.train.loop import run_to_end
from triptych.lm.train.trainer import Trainer


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of three modules that every Python has, as many small documents."""
    texts = tmp_path_factory.mktemp("texts")
    for module in (argparse, textwrap, json):
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        for number, part in enumerate(source.split("\n\n\n")):
            (texts / f"{module.__name__}-{number:03d}.txt").write_text(part, encoding="utf-8")
    folder = tmp_path_factory.mktemp("data") / "corpus"
    build_corpus([str(texts)], folder, DataConfig(vocab_size=400, validation_frac=0.1))
    return folder


@pytest.fixture(scope="session")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    settings = [
        f"train.data={corpus}",
        "model.size=nano",
        "model.hidden_size=32",
        "model.num_hidden_layers=2",
        "model.num_attention_heads=2",
        "model.max_position_embeddings=64",
        "train.steps=30",
        "train.batch_tokens=512",
        "train.eval_tokens=512",
        "train.eval_every=10",
        "train.checkpoint_every=10",
        "train.sample_tokens=8",
        "train.threads=1",
        "train.precision=float32",
    ]
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert run_to_end(Trainer(load_config(None, settings), folder)) == "finished"
    return folder


@pytest.fixture(scope="session")
def checkpoint(run: Path) -> Path:
    """The last checkpoint of the run."""
    return run / "checkpoints/step-00000030"
