"""What a Space cannot reach, with bubblewrap and without it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import httpx
import pytest

import triptych
from triptych.hub.server.workloads import sandbox

needs_bubblewrap = pytest.mark.usefixtures("bubblewrap")


@pytest.fixture(scope="session")
def bubblewrap() -> None:
    """Need isolation; a machine without it skips, but never in CI."""
    if not sandbox.available():
        if os.environ.get("CI"):
            pytest.fail("bubblewrap is missing or not permitted")
        pytest.skip("bubblewrap is missing or not permitted on this machine")


@pytest.fixture(scope="module")
def keeper(running):
    """A Space with a secret."""
    return running.space(space_secrets=[{"key": "KEPT", "value": "kept-secret"}])


@needs_bubblewrap
def test_files_of_the_hub_and_of_other_spaces_do_not_exist_for_a_space(running, keeper, probe):
    neighbours = list((running.root / "spaces" / keeper.uid).rglob("app.py"))
    assert neighbours
    forbidden = [
        running.root / "hub.db",
        running.root / "admin_token",
        running.root / "secret.key",
        *neighbours,
        *neighbours[0].parents[1].glob("logs/*"),
        Path("/etc/shadow"),
        Path(__file__),
        Path.home() / ".bashrc",
        Path("/proc/1/root") / str(running.root / "hub.db").lstrip("/"),
    ]
    for path in forbidden:
        assert probe.get("/read", params={"path": str(path)}).status_code == 404, path
    assert probe.get("/read?path=app.py").status_code == 200


@needs_bubblewrap
def test_processes_of_others_do_not_exist_for_a_space(keeper, probe):
    seen = probe.seen()
    assert len(seen["processes"]) < 8
    for pid in seen["processes"]:
        answer = probe.get(f"/read?path=/proc/{pid}/environ")
        assert b"kept-secret" not in answer.content
    assert seen["user"] == 1000


@needs_bubblewrap
def test_a_space_writes_only_into_its_own_home(probe):
    package = Path(triptych.__file__).parent / "errors.py"
    for path in (package, Path(sys.prefix, "pyvenv.cfg"), "/usr/bin/marker", "/etc/passwd"):
        assert probe.get("/write", params={"path": str(path)}).status_code == 403, path
    for path in ("/home/user/note", "/home/user/app/note", "/tmp/note", "/dev/shm/note"):
        assert probe.get("/write", params={"path": path}).text == "written", path
    assert not Path("/tmp/note").exists()


@needs_bubblewrap
def test_a_space_has_no_capability_and_no_way_to_more(probe):
    status = probe.get("/read?path=/proc/self/status").text
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert f"{name}:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status


def test_secrets_and_tokens_are_in_no_argument_of_any_process(running, keeper):
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes()
        except OSError:
            continue
        assert b"kept-secret" not in arguments
        assert running.token.encode() not in arguments


def test_without_isolation_only_approved_spaces_run(running, monkeypatch, app, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", str(programs))
    assert not sandbox.available()
    space = running.space(None)
    space.push(app=app, readme="---\nsdk: gradio\n---\n")
    runtime = space.until("CONFIG_ERROR")
    assert "bubblewrap" in runtime["errorMessage"]
    assert f"triptych hub approve {space.repo_id}" in runtime["errorMessage"]
    approval = f"{running.url}/api/spaces/{space.repo_id}/approval"
    _, stranger = running.user()
    for token, status in ((stranger, 403), (running.token, 200)):
        answer = httpx.put(approval, headers={"authorization": f"Bearer {token}"}, timeout=60)
        assert answer.status_code == status
    space.until("RUNNING")
    assert space.seen()["user"] == os.getuid()
    httpx.delete(approval, headers={"authorization": f"Bearer {running.token}"}, timeout=60)
    runtime = space.until("CONFIG_ERROR")
    assert "still answers" not in runtime["errorMessage"]


@needs_bubblewrap
def test_a_hub_inside_a_folder_that_is_shown_is_covered(tmp_path):
    hub, environment = tmp_path / "hub", tmp_path / "hub" / "environments" / "x"
    environment.mkdir(parents=True)
    (hub / "admin_token").write_text("secret")
    (environment / "inside").write_text("shown")
    for name in ("app", "home"):
        (tmp_path / name).mkdir()
    place = sandbox.Workplace(
        tmp_path / "app", tmp_path / "home", readable=(tmp_path, environment), hidden=(hub,)
    )
    confined = sandbox.confine(["/bin/sh", "-c", f"ls {hub}; cat {environment}/inside"], place)
    import subprocess

    done = subprocess.run(confined.arguments, capture_output=True, text=True, check=True)
    assert done.stdout == "environments\nshown"
