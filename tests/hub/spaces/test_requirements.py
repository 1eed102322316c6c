"""Requirements: met by the running environment, or by an environment of their own."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import pytest

from triptych.hub.server.spaces.environments import Environments
from triptych.hub.server.spaces.requirements import Requirements, is_running_version

APP = """
import http.server, os, sys, tinywish
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        import starlette, triptych
        body = f"{tinywish.__version__} {sys.prefix}".encode()
        self.send_response(200); self.end_headers(); self.wfile.write(body)
http.server.HTTPServer(("", int(os.environ["PORT"])), Answer).serve_forever()
"""


def wheel(folder: Path, version: str) -> Path:
    path = folder / f"tinywish-{version}-py3-none-any.whl"
    information = f"tinywish-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tinywish.py", f"__version__ = {version!r}\n")
        archive.writestr(
            f"{information}/METADATA",
            f"Metadata-Version: 2.1\nName: tinywish\nVersion: {version}\n",
        )
        archive.writestr(
            f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{information}/RECORD", "")
    return path


def wishes(folder: Path, text: str) -> Requirements:
    (folder / "requirements.txt").write_text(text)
    return Requirements.read(folder)


@pytest.mark.parametrize(
    ("text", "unmet"),
    [
        ("", []),
        ("# only a comment\n\n", []),
        ("starlette\nuvicorn>=0.1 # with a remark\nhuggingface-hub\nPyYAML\n", []),
        ("triptych\n", []),
        ("starlette<0.1\n", ["starlette<0.1"]),
        ("no-such-package-at-all\n", ["no-such-package-at-all"]),
        ("no-such-package-at-all; python_version < '3'\n", []),
        ("uvicorn[standard]\n", ["uvicorn[standard]"]),
        ("./local.whl\n", ["./local.whl"]),
        ("--find-links wheels\n", ["--find-links wheels"]),
        ("x @ https://example.org/x.whl\n", ["x @ https://example.org/x.whl"]),
    ],
)
def test_what_the_running_environment_meets(tmp_path: Path, text: str, unmet: list[str]) -> None:
    assert wishes(tmp_path, text).unmet() == unmet


def test_an_environment_is_shared_unless_it_depends_on_the_tree(tmp_path: Path) -> None:
    plain, local = wishes(tmp_path, "a==1\nb"), wishes(tmp_path, "a==1\n./b.whl")
    assert plain.key("tree 1") == plain.key("tree 2")
    assert local.key("tree 1") != local.key("tree 2")
    assert wishes(tmp_path, "a==2\nb").key("tree 1") != plain.key("tree 1")


def test_python_versions_compare_by_their_minor_part() -> None:
    import sys

    major, minor = sys.version_info[:2]
    assert is_running_version(f"{major}.{minor}") and is_running_version(f"{major}.{minor}.99")
    assert not is_running_version(f"{major}.{minor + 1}")


def test_a_space_runs_with_packages_of_its_own_on_top_of_the_running_ones(running, tmp_path):
    space = running.space(None)
    built = wheel(tmp_path, "1.5")
    space.push(
        app=APP, requirements=f"starlette\n./{built.name}\n", readme="---\nsdk: gradio\n---\n",
        **{built.name: built.read_bytes()},
    )  # fmt: skip
    space.until("RUNNING")
    version, prefix = space.get("/").text.split()
    assert version == "1.5"
    environments = running.root / "spaces" / "environments"
    assert prefix.startswith(str(environments))
    log = "".join(space.api.fetch_space_logs(space.repo_id, build=True))
    assert "Successfully installed tinywish-1.5" in log
    space.api.restart_space(space.repo_id)
    deadline = time.monotonic() + 90
    while "using environment" not in log:
        assert time.monotonic() < deadline, log
        time.sleep(0.05)
        log = "".join(space.api.fetch_space_logs(space.repo_id, build=True))
    space.until("RUNNING")
    assert space.get("/").text.split()[1] == prefix


def test_what_cannot_be_installed_is_a_build_error_with_pips_words(running, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    space = running.space(None)
    space.push(app="", requirements="no-such-package-at-all==9\n", readme="---\nsdk: gradio\n---\n")
    runtime = space.until("BUILD_ERROR")
    assert "exit code 1" in runtime["errorMessage"]
    log = "".join(space.api.fetch_space_logs(space.repo_id, build=True))
    assert "No matching distribution found for no-such-package-at-all==9" in log


def test_rebuilding_leaves_what_runs_alone_and_the_next_start_sweeps(tmp_path: Path) -> None:
    kept = Environments(tmp_path / "environments")
    assert kept.current("key") is None
    first, half = kept.new("key"), kept.new("other")
    kept.settle("key", first)
    assert kept.current("key") == first
    second = kept.new("key")
    assert kept.current("key") == first
    kept.settle("key", second)
    assert kept.current("key") == second and first.exists()
    kept.sweep()
    assert second.exists() and not first.exists() and not half.parent.exists()


def test_an_environment_nobody_wanted_for_long_is_swept(tmp_path: Path) -> None:
    kept = Environments(tmp_path / "environments")
    kept.settle("old", kept.new("old"))
    os.utime(tmp_path / "environments" / "old" / "current", (0, 0))
    kept.sweep()
    assert kept.current("old") is None
