"""What every test stands on: a home of its own, quiet threads, real text where it is present."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# No example is wrong for taking long: other work may share the machine.
settings.register_profile(
    "patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")

# Read by libraries at import, so set before any of them is imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

pytest_plugins = ["programs"]

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a TRIPTYCH_HOME of its own, so that none reads or writes the user's."""
    home = tmp_path / "triptych-home"
    monkeypatch.setenv("TRIPTYCH_HOME", str(home))
    return home


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Let parallel test workers share the cores instead of fighting for them."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real text, or skip where it is absent (never in CI)."""
    if not SHARED_DATA.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"real text is missing in {SHARED_DATA}")
        pytest.skip(f"no real text in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the checkout's root."""
    return REPOSITORY


@pytest.fixture
def proven(repository: Path) -> Callable[..., None]:
    """Hand out the function that writes what a long proof found into benchmarks/results."""
    spec = importlib.util.spec_from_file_location("report", repository / "benchmarks/report.py")
    assert spec is not None and spec.loader is not None
    report: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(report)

    def write(name: str, part: str, found: dict[str, Any]) -> None:
        file = report.RESULTS / f"{name}.json"
        before = json.loads(file.read_text()) if file.exists() else {}
        report.write_results(name, before | {"machine": report.environment(), part: found})

    return write
