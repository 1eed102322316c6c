"""The wheel is the whole product: every file of the package, Space templates included."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path


def test_the_wheel_contains_every_tracked_file_of_the_package(
    repository: Path, tmp_path: Path
) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "triptych", "pyproject.toml", "README.md", "LICENSE"],
        cwd=repository, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    wanted = [name for name in tracked if name and (repository / name).is_file()]
    source = tmp_path / "source"
    for name in wanted:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((repository / name).read_bytes())
    # Built with the setuptools that is installed: no index is asked.
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--no-index", "--wheel-dir", str(tmp_path), str(source)],
        check=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("triptych-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    package = {name for name in wanted if name.startswith("triptych/")}
    assert package - inside == set()
    assert {"triptych/spaces/tier/app.py", "triptych/spaces/minimal/README.md"} <= inside
    assert {name for name in inside if name.split("/")[0].partition("-")[0] != "triptych"} == set()
