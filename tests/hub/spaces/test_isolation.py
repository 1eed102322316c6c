"""What a Space cannot reach under each isolation, and what runs where there is none."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import triptych
from triptych.config.hub import HubConfig
from triptych.errors import ConfigError
from triptych.hub.server.workloads import bubblewrap, isolation, landlock
from triptych.hub.server.workloads.isolation import Mode
from triptych.hub.server.workloads.workplace import Workplace

MODES = ["bubblewrap", "landlock"]
GRADIO = "---\nsdk: gradio\n---\n"


def require(mode: str) -> None:
    """Need an isolation; a machine without it skips, but never in CI."""
    why = (
        bubblewrap.why_not() if mode == "bubblewrap" else ("" if landlock.abi() else "no Landlock")
    )
    if why:
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(f"{why} on this machine")


@pytest.fixture(scope="session")
def needs_bubblewrap() -> None:
    """Need bubblewrap."""
    require("bubblewrap")


@pytest.fixture(scope="session")
def needs_landlock() -> None:
    """Need Landlock in the kernel."""
    require("landlock")


@pytest.fixture(scope="module", params=MODES)
def isolated(request, start_hub):
    """A hub that was told which isolation to use."""
    require(request.param)
    hub = start_hub(isolation=request.param, space_processes=24, space_wake_s=60)
    assert hub.hub.isolation.mode == request.param
    return hub


@pytest.fixture(scope="module")
def keeper(isolated):
    """A Space with a secret, of another user."""
    return isolated.space(space_secrets=[{"key": "KEPT", "value": "kept-secret"}])


@pytest.fixture(scope="module")
def spy(isolated, keeper):
    """The Space that tries to reach what is not its own."""
    return isolated.space()


def files_of(hub, space) -> Path:
    """The folder of the files of a Space."""
    return hub.hub.isolation.folder(hub.root / "spaces") / space.uid


def refuses(space, path: object) -> bool:
    return space.get("/read", params={"path": str(path)}).status_code == 404


def test_a_space_reads_neither_the_hubs_token_and_keys_nor_files_of_other_spaces(
    isolated, keeper, spy
):
    neighbours = list(files_of(isolated, keeper).rglob("app.py"))
    assert neighbours
    forbidden = [
        isolated.root / "hub.db",
        isolated.root / "admin_token",
        isolated.root / "secret.key",
        *neighbours,
        *neighbours[0].parents[1].glob("logs/*"),
        Path("/etc/shadow"),
        Path(__file__),
        Path(f"/proc/{os.getpid()}/root") / str(isolated.root / "admin_token").lstrip("/"),
    ]
    for path in forbidden:
        assert path.exists(), path
        assert refuses(spy, path), path
    assert spy.get("/read?path=app.py").status_code == 200


def test_a_space_reads_no_home_and_no_shared_tmp(isolated, spy, tmp_path):
    (tmp_path / "note").write_text("private")
    assert refuses(spy, tmp_path / "note")
    for name in (".profile", ".bashrc", ".triptych"):
        assert refuses(spy, Path.home() / name)


def test_a_space_reads_no_environment_or_memory_of_other_processes(isolated, keeper, spy):
    kept = next(
        one.process().pid
        for one in isolated.services.spaces._spaces.values()
        if one.repository_id != spy_id(isolated, spy) and one.process() is not None
    )
    assert b"kept-secret" in Path(f"/proc/{kept}/environ").read_bytes()
    inside = set(spy.seen()["processes"])  # under bubblewrap these pids are its own
    for pid in {str(os.getpid()), str(kept)} - inside:
        for name in ("environ", "mem", "maps"):
            assert refuses(spy, f"/proc/{pid}/{name}"), (pid, name)
    for pid in inside:
        assert b"kept-secret" not in spy.get(f"/read?path=/proc/{pid}/environ").content
    assert len(inside) < 8


def spy_id(hub, space) -> int:
    row = hub.hub.database.one("SELECT id FROM repositories WHERE uid = ?", space.uid)
    return int(row["id"])


def test_a_space_sends_no_signal_to_the_hub(isolated, spy):
    assert spy.get(f"/kill?pid={os.getpid()}").status_code == 403


def test_a_space_writes_only_into_its_own_folders(isolated, spy):
    package = Path(triptych.__file__).parent / "errors.py"
    for path in (package, Path(sys.prefix, "pyvenv.cfg"), "/usr/bin/marker", "/etc/passwd"):
        assert spy.get("/write", params={"path": str(path)}).status_code == 403, path
    assert not Path("/tmp/note").exists()
    seen = spy.seen()
    scratch = seen["environment"].get("TMPDIR", "/tmp")
    for folder in (seen["environment"]["HOME"], seen["folder"], scratch):
        assert spy.get("/write", params={"path": f"{folder}/note"}).text == "written", folder
    assert not Path("/tmp/note").exists()


def test_a_space_has_no_capability_and_no_way_to_more(isolated, spy):
    pid = spy.seen()["pid"] if isolated.hub.isolation.mode == Mode.LANDLOCK else "self"
    status = spy.get(f"/read?path=/proc/{pid}/status").text
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert f"{name}:\t0000000000000000" in status
    if isolated.hub.isolation.mode == Mode.LANDLOCK and os.getuid() == 0:
        assert "CapBnd:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status


def test_secrets_and_tokens_are_in_no_argument_of_any_process(isolated, keeper):
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes()
        except OSError:
            continue
        assert b"kept-secret" not in arguments
        assert isolated.token.encode() not in arguments


def test_a_space_under_landlock_listens_on_its_own_port_only(isolated, spy):
    if isolated.hub.isolation.mode != Mode.LANDLOCK or landlock.abi() < 4:
        return  # bubblewrap shares the network; older kernels restrict no port
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        other = free.getsockname()[1]
    assert spy.get(f"/bind?port={other}").text == "PermissionError"
    # Any free port is allowed: libraries listen there for themselves.
    assert spy.get("/bind?port=0").text == "bound"
    own = spy.seen()["environment"]["PORT"]
    assert spy.get(f"/bind?port={own}").text in ("bound", "OSError")


def test_the_space_and_its_page_name_the_isolation(isolated, spy):
    assert spy.runtime["isolation"]["mode"] == isolated.hub.isolation.mode
    page = httpx.get(f"{isolated.url}/spaces/{spy.repo_id}", timeout=60)
    assert isolated.hub.isolation.mode in page.text


def test_a_hub_inside_a_folder_that_is_readable_stays_hidden(isolated, tmp_path):
    hub, environment = tmp_path / "hub", tmp_path / "hub" / "environments" / "x"
    environment.mkdir(parents=True)
    (hub / "admin_token").write_text("secret")
    (environment / "inside").write_text("shown")
    (tmp_path / "beside").write_text("beside")
    for name in ("app", "home"):
        (tmp_path / name).mkdir()
    place = Workplace(
        tmp_path / "app", tmp_path / "home", readable=(tmp_path, environment), hidden=(hub,)
    )
    code = f"cat {hub}/admin_token; cat {environment}/inside {tmp_path}/beside"
    confined = isolated.hub.isolation.confine(["/bin/sh", "-c", code], place)
    done = subprocess.run(confined.arguments, capture_output=True, text=True, check=True)
    assert done.stdout == "shownbeside"


def run_as_other_user(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run a shell line as a workload of root's hub runs where another user can be taken."""
    folder.chmod(0o711)
    place = Workplace(folder / "spaces" / "app", folder / "spaces" / "home")
    for path in (place.app, place.home):
        path.mkdir(parents=True)
    found = isolation.Isolation(Mode.LANDLOCK, elsewhere=folder)
    confined = found.confine(["/bin/sh", "-c", code], place)
    return subprocess.run(
        confined.arguments, capture_output=True, text=True, cwd=confined.folder, check=False
    )


@pytest.mark.usefixtures("needs_landlock")
def test_landlock_under_root_takes_another_user_who_owns_the_workloads_files():
    if os.getuid() != 0:
        return  # another user can be taken by root only
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="workloads-"))
    try:
        done = run_as_other_user(folder, "id -u; echo mine > note; cat note; cat /etc/shadow")
        uid, note = done.stdout.split()
        assert int(uid) >= 61200 and note == "mine"
        assert (folder / "spaces" / "app" / "note").stat().st_uid == int(uid)
        assert "Permission denied" in done.stderr
    finally:
        shutil.rmtree(folder)


def path_without_bubblewrap(folder: Path) -> str:
    folder.mkdir()
    (folder / "git").symlink_to(str(shutil.which("git")))
    return str(folder)


@pytest.mark.usefixtures("needs_landlock")
def test_without_bubblewrap_on_the_path_landlock_is_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", path_without_bubblewrap(tmp_path / "bin"))
    found = isolation.choose(HubConfig(root=str(tmp_path / "hub")))
    assert found.mode == Mode.LANDLOCK
    with pytest.raises(ConfigError, match="bubblewrap is not installed"):
        isolation.choose(HubConfig(root=str(tmp_path / "hub"), isolation="bubblewrap"))


def test_without_bubblewrap_and_landlock_only_what_is_approved_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", path_without_bubblewrap(tmp_path / "bin"))
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    found = isolation.choose(HubConfig(root=str(tmp_path / "hub")))
    assert found.mode == Mode.APPROVED_ONLY and not found.isolates
    assert "bubblewrap is not installed" in found.describe()
    assert "not isolated" in found.summary
