"""A corpus that is built once, and runs small enough to train in a second or two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from triptych.config import load_config
from triptych.lm.data.build import build_corpus
from triptych.lm.runs.store import Request, Run, RunStore
from triptych.lm.runs.worker import work

from .schedulers import other_machine, slurm  # noqa: F401  fixtures

SMALL = (
    "model.size=nano",
    "model.hidden_size=32",
    "model.num_hidden_layers=1",
    "model.num_attention_heads=2",
    "train.context_length=32",
    "train.batch_tokens=64",
    "train.precision=float32",
    "train.compile=off",
    "train.threads=1",
    "train.eval_every=0",
    "train.sample_every=0",
    "train.checkpoint_every=5",
)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a small corpus from sentences."""
    folder = tmp_path_factory.mktemp("corpus")
    text = folder / "text"
    text.mkdir()
    for number in range(40):
        lines = [f"Line {n} of story {number} tells of {n * number} ships." for n in range(30)]
        (text / f"{number}.txt").write_text("\n".join(lines))
    settings = ["data.vocab_size=512", "data.seed=1"]
    build_corpus([str(text)], folder / "data", load_config(None, settings).data)
    return folder / "data"


@pytest.fixture
def store(own_home: Path) -> RunStore:
    """Return an empty store in the test's own home."""
    return RunStore(own_home / "runs")


def request_of(corpus: Path, steps: int, settings: tuple[str, ...], **fields: object) -> Request:
    chosen = [*SMALL, f"train.data={corpus}", f"train.steps={steps}", *settings]
    return Request.of(load_config(None, chosen), **fields)


@pytest.fixture
def request_for(corpus: Path) -> Callable[..., Request]:
    """Make requests for tiny runs of a given number of steps."""

    def make(steps: int = 20, *settings: str, **fields: object) -> Request:
        return request_of(corpus, steps, settings, **fields)

    return make


@pytest.fixture(scope="session")
def calm(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Give the undisturbed run of these settings; each is trained once, in this process."""
    store = RunStore(tmp_path_factory.mktemp("calm") / "runs")
    made: dict[tuple[object, ...], str] = {}

    def find(steps: int, *settings: str) -> Run:
        key = (steps, *settings)
        if key not in made:
            run = store.create(request_of(corpus, steps, settings, name="calm"))
            assert work(run.path, Path) == 0
            made[key] = run.run_id
        return store.get(made[key])

    return find
