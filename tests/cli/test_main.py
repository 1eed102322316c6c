"""The command line: instant, helpful when wrong, exit codes as promised."""

from __future__ import annotations

import subprocess
import sys

import pytest

from triptych.cli import COMMANDS
from triptych.cli.main import available, main


def test_help_shows_every_command_that_exists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert (f"triptych {name} " in shown) == available(name)


def test_help_loads_no_command_module() -> None:
    code = (
        "import sys; from triptych.cli.main import overview; overview(); "
        "print([m for m in sys.modules if m.startswith('triptych.')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(eval(result.stdout))
    others = {name for name in loaded if not name.startswith("triptych.errors")}
    assert others == {"triptych.cli", "triptych.cli.main"}


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["confg"]) == 2
    assert "did you mean `triptych config`?" in capsys.readouterr().err


def test_a_wrong_setting_exits_with_two_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "trian.steps=3"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "did you mean train?" in captured.err or "unknown setting" in captured.err


def test_output_goes_to_a_closed_pipe_quietly() -> None:
    result = subprocess.run(
        f"{sys.executable} -m triptych config show | head -1",
        shell=True, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.startswith("[data]")
    assert result.stderr == ""


def test_options_may_stand_between_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "--json", "train.steps=7"]) == 0
    assert '"steps": 7' in capsys.readouterr().out
