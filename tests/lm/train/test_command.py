"""`triptych train` as a person types it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from triptych.cli.main import main
from triptych.config import load_config
from triptych.lm.evaluate.run_history import read_run_history

from .conftest import SMALL


def test_training_leaves_a_run_and_says_where(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", *SMALL, f"train.data={corpus}", "--run-dir", str(run)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{run}\n", "data goes to stdout"
    assert "12 steps of 8 x 32 tokens" in err and "finished at step 12" in err
    assert (run / "report.md").is_file()
    assert main(["train", "--resume", str(run), "--quiet"]) == 0
    assert read_run_history(run).record["state"] == "finished"


def test_without_a_place_the_run_goes_under_the_home(
    corpus: Path, own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *SMALL, f"train.data={corpus}", "train.steps=1", "--quiet"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder.parent == own_home / "runs"
    assert folder.name.split("-")[2] == "nano"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train.stepz=3"], "did you mean train.steps"),
        (["train.steps=0"], "train.steps = 0"),
        (["train.optimizer=lion"], "train.optimizer = 'lion'"),
        (["model.size=huge"], "model.size = 'huge'"),
        (["no-such.toml"], "no configuration file no-such.toml"),
        ([], "train.data is not set"),
        (["--resume", "somewhere", "train.steps=3"], "--resume takes no settings"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err and "hint:" in err


def test_the_example_configurations_load(repository: Path) -> None:
    examples = sorted((repository / "configs").glob("*.toml"))
    assert examples
    for example in examples:
        config = load_config(example)
        assert config.train.data == Path("corpus"), example
        assert tomllib.loads(example.read_text(encoding="utf-8"))
