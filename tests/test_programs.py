"""A missing system program: skipped at once and named at the end; in CI a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PLANTED = """
import time
import pytest

@pytest.fixture(scope="session")
def browser():
    raise RuntimeError("a fixture must not start without its program")

def test_needs_nothing():
    pass

def test_draws_a_page(browser):
    pass

@pytest.mark.needs("git-lfs")
def test_pushes_a_large_file():
    pass
"""


def run_planted(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_planted.py").write_text(PLANTED)
    (folder / "programs-of-this-machine").mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment |= {
        "PATH": str(folder / "programs-of-this-machine"),
        "PYTHONPATH": str(Path(__file__).parent),
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "programs", "-p", "no:cacheprovider", "-q", "-ra",
         "--rootdir", str(folder), *options, "test_planted.py"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_what_needs_a_missing_program_is_skipped_and_one_line_says_what_to_install(
    tmp_path: Path,
) -> None:
    for workers in ((), ("-n", "1")):
        done = run_planted(tmp_path, *workers)
        assert done.returncode == 0, done.stdout + done.stderr
        *_, line, closing = done.stdout.strip().splitlines()
        assert line == (
            "missing programs: chromium (1 tests), git-lfs (1 tests); "
            "to run these too: apt-get install chromium git-lfs"
        )
        assert closing.startswith("1 passed, 2 skipped")


def test_in_ci_a_missing_program_is_a_failure(tmp_path: Path) -> None:
    done = run_planted(tmp_path, CI="true")
    assert done.returncode == 1
    assert "chromium is missing; apt-get install chromium" in done.stdout
    assert "1 passed, 2 errors" in done.stdout


def test_a_program_that_is_there_is_used(tmp_path: Path) -> None:
    run_planted(tmp_path)
    for program in ("git-lfs", "chromium"):
        file = tmp_path / "programs-of-this-machine" / program
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    done = run_planted(tmp_path)
    assert "missing programs" not in done.stdout
    assert "1 error" in done.stdout and "2 passed" in done.stdout
