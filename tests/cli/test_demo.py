"""A demo that fails says where, and goes on from there."""

from __future__ import annotations

from pathlib import Path

import pytest

from triptych.cli.demo.progress import Progress
from triptych.cli.main import main


def test_a_demo_that_fails_names_its_stage_what_works_and_what_to_type(
    own_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", str(own_home / "no-such-text")]) != 0
    said = capfd.readouterr().err
    assert "failed in its stage 'train'" in said
    assert "nothing yet" in said and "`triptych demo --again`" in said


def test_what_is_finished_counts_for_the_same_text_and_length_only(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "demo.json")
    assert progress.read(["a"], 90.0) == []
    progress.write(["a"], 90.0, ["train"])
    assert progress.read(["a"], 90.0) == ["train"]
    assert progress.read(["b"], 90.0) == progress.read(["a"], 20.0) == []
    progress.path.write_text("{torn")
    assert progress.read(["a"], 90.0) == []
    progress.clear()
    assert not progress.path.exists()
