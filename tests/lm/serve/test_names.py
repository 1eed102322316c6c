"""What clients call a served model."""

from __future__ import annotations

import shutil
from pathlib import Path

from triptych.cli.resolve import resolve
from triptych.lm.serve.models import describe_model


def test_s3_14b_a_served_run_is_called_by_the_run(qwen3_folder: Path, tmp_path: Path) -> None:
    for run in ("first", "second"):
        places = tmp_path / run / "checkpoints"
        shutil.copytree(qwen3_folder, places / "step-00000080")
        (places / "best").write_text("step-00000080\n")
    names = [describe_model(str(tmp_path / run), resolve).name for run in ("first", "second")]
    assert names == ["first", "second"]
    named = describe_model(str(tmp_path / "first/checkpoints/step-00000080"), resolve)
    assert named.name == "step-00000080"
