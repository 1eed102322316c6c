"""One small run with several checkpoints, for every test of the Playground."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from browsing import serving

from triptych.cli.resolve import resolve
from triptych.config import load_config
from triptych.lm.data.build import build_corpus
from triptych.lm.runs.store import RunStore
from triptych.panels.playground.app import build_app

SETTINGS = (
    "model.size=nano",
    "train.steps=40",
    "train.context_length=64",
    "train.batch_tokens=512",
    "train.threads=1",
    "train.compile=off",
    "train.precision=float32",
    "train.checkpoint_every=10",
    "train.eval_every=10",
    "train.keep_last=5",
    "train.sample_every=0",
)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a model for four checkpoints on the help topics of Python."""
    from triptych.lm.train.loop import run_to_end
    from triptych.lm.train.trainer import Trainer

    home = tmp_path_factory.mktemp("home")
    text = home / "text"
    text.mkdir()
    for name, topic in list(topics.items())[:60]:
        (text / f"{name}.txt").write_text(topic)
    build_corpus([str(text)], home / "data", load_config(None, ["data.vocab_size=512"]).data)
    config = load_config(None, [*SETTINGS, f"train.data={home / 'data'}"])
    run_to_end(Trainer(config, home / "runs" / "topics"))
    return home / "runs" / "topics"


@pytest.fixture
def runs(run_folder: Path, own_home: Path) -> RunStore:
    """A home that holds the run."""
    own_home.mkdir(parents=True)
    (own_home / "runs").symlink_to(run_folder.parent)
    return RunStore(own_home / "runs")


@pytest.fixture(scope="module")
def address(
    run_folder: Path, tmp_path_factory: pytest.TempPathFactory, module_home: Path
) -> Iterator[str]:
    """One Playground over the run, for every test of this file."""
    (module_home / "runs").symlink_to(run_folder.parent)
    config = load_config(None, ["generate.threads=1", "panels.hub_models=none"])
    with serving(build_app(config, resolve)) as place:
        yield place


@pytest.fixture(scope="module")
def module_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("playground-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_HOME", str(home))
        yield home
