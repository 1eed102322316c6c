"""kill -9 at any moment: what was acknowledged is there whole, nothing is there in half."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.hub.server.conftest import HubProcess

FILES = 12


def content(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def upload(client: httpx.Client, repo_id: str, name: str) -> str:
    """Make one commit of a dozen files and a large one; return its id once acknowledged."""
    large = content(name, 400_000)
    sha256 = hashlib.sha256(large).hexdigest()
    batch = {"operation": "upload", "objects": [{"oid": sha256, "size": len(large)}]}
    answer = client.post(f"/{repo_id}.git/info/lfs/objects/batch", json=batch).json()
    actions = answer["objects"][0].get("actions")
    if actions:
        client.put(actions["upload"]["href"], content=large).raise_for_status()
    lines = [{"key": "header", "value": {"summary": name}}]
    for number in range(FILES):
        encoded = base64.b64encode(content(f"{name}/{number}", 500)).decode()
        value = {"path": f"{name}/{number}.txt", "content": encoded, "encoding": "base64"}
        lines.append({"key": "file", "value": value})
    value = {"path": f"{name}/w.bin", "oid": sha256, "size": len(large)}
    lines.append({"key": "lfsFile", "value": value})
    body = "\n".join(map(json.dumps, lines))
    done = client.post(f"/api/models/{repo_id}/commit/main", content=body)
    done.raise_for_status()
    return str(done.json()["commitOid"])


def work_until_killed(hub: HubProcess, round_number: int, rng: random.Random) -> dict[str, str]:
    """Commit from three threads, kill the hub at a random moment, return what it acknowledged."""
    acknowledged: dict[str, str] = {}

    def hand(number: int) -> None:
        with httpx.Client(base_url=hub.url, headers=hub.headers, timeout=60) as client:
            for step in range(1000):
                name = f"r{round_number}-{number}-{step}"
                try:
                    acknowledged[name] = upload(client, "admin/busy", name)
                except (httpx.HTTPError, ValueError):
                    return

    hands = [threading.Thread(target=hand, args=(number,)) for number in range(3)]
    for thread in hands:
        thread.start()
    # Every other time only once something was acknowledged, however slow the machine is.
    deadline = time.monotonic() + 150
    while round_number % 2 == 0 and not acknowledged and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(rng.uniform(0.05, 1.0))
    hub.kill()
    for thread in hands:
        thread.join(timeout=60)
    return acknowledged


def check(hub: HubProcess, acknowledged: dict[str, str]) -> int:
    """Look at everything: history, every file of every commit, git's own opinion.

    Returns: the number of commits that are there.
    """
    with httpx.Client(base_url=hub.url, headers=hub.headers, timeout=60) as client:
        history: dict[str, str] = {}
        page = 0
        while True:
            listed = client.get(
                "/api/models/admin/busy/commits/main", params={"limit": 100, "p": page}
            ).json()
            history |= {commit["id"]: commit["title"] for commit in listed}
            if len(listed) < 100:
                break
            page += 1
        for name, sha in acknowledged.items():
            assert history.get(sha) == name, f"the acknowledged commit {name} is gone"
        assert client.get("/api/models/admin/busy").json()["sha"] == next(iter(history))
        sizes: dict[str, dict[str, int]] = {}
        for entry in _tree(client):
            folder, _, file = entry["path"].partition("/")
            if file and entry["type"] == "file":
                sizes.setdefault(folder, {})[file] = entry["size"]
        whole = {f"{number}.txt": 500 for number in range(FILES)} | {"w.bin": 400_000}
        names = {title for title in history.values() if title.startswith("r")}
        assert set(sizes) == names
        for name, found in sizes.items():
            assert found == whole, f"{name} is there in half"
        for name in random.Random(1).sample(sorted(names), min(5, len(names))):
            url = f"/admin/busy/resolve/main/{name}"
            assert client.get(f"{url}/w.bin").content == content(name, 400_000)
            assert client.get(f"{url}/3.txt").content == content(f"{name}/3", 500)
    for folder in (hub.root / "repositories").glob("*/*.git"):
        result = subprocess.run(
            ["git", "--git-dir", str(folder), "fsck", "--strict", "--full"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    return len(names)


def _tree(client: httpx.Client) -> Iterator[dict[str, object]]:
    url: str | None = "/api/models/admin/busy/tree/main?recursive=1"
    while url:
        answer = client.get(url)
        yield from answer.json()
        url = answer.links.get("next", {}).get("url")


def kill_often(
    start: Callable[[Path], HubProcess], root: Path, rounds: int, seed: int
) -> dict[str, int | float]:
    rng = random.Random(seed)
    acknowledged: dict[str, str] = {}
    hub = start(root)
    httpx.post(
        f"{hub.url}/api/repos/create", json={"name": "busy"}, headers=hub.headers, timeout=60
    ).raise_for_status()
    hub.kill()
    in_the_midst = 0
    for number in range(rounds):
        acknowledged |= work_until_killed(start(root), number, rng)
        in_the_midst += any((root / "incoming").iterdir())
    commits = check(start(root), acknowledged)
    assert not list((root / "incoming").iterdir())
    assert acknowledged, "nothing was ever acknowledged"
    return {
        "kills (SIGKILL)": rounds,
        "of them while a large file came in": in_the_midst,
        "commits acknowledged": len(acknowledged),
        "commits there afterwards, whole": commits,
        "files compared by size": commits * (FILES + 1),
    }


def test_a_killed_hub_keeps_what_it_acknowledged(
    hub_process: Callable[[Path], HubProcess], tmp_path: Path
) -> None:
    kill_often(hub_process, tmp_path / "hub", rounds=3, seed=1)


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_kills_lose_nothing(
    hub_process: Callable[[Path], HubProcess],
    tmp_path: Path,
    proven: Callable[..., None],
    seed: int,
) -> None:
    found = kill_often(hub_process, tmp_path / "hub", rounds=10, seed=seed)
    proven("proofs-hub", f"a hub killed at random, seed {seed}", found)


def test_two_hubs_never_share_a_folder(
    hub_process: Callable[[Path], HubProcess], tmp_path: Path
) -> None:
    hub_process(tmp_path / "hub")
    second = subprocess.run(
        [sys.executable, "-m", "triptych", "hub", "serve", "--root", str(tmp_path / "hub"),
         "--port", "0"],
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert second.returncode != 0
    assert "in use by process" in second.stderr


def test_a_full_disk_refuses_cleanly_and_goes_on(tmp_path: Path) -> None:
    """The hub's folder on a disk of 12 MB: uploads end in 507, what was there stays there."""
    root = tmp_path / "hub"
    root.mkdir()
    small_disk = f"mount -t tmpfs -o size=12m tmpfs '{root}' && exec \"$@\""
    launcher = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", small_disk, "sh")
    probe = subprocess.run([*launcher, "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        if os.environ.get("CI"):
            pytest.fail(f"no small disk can be made here: {probe.stderr.decode()}")
        pytest.skip("no small disk can be made here")
    token_file = tmp_path / "token"
    copy = f"(while [ ! -s '{root}/admin_token' ]; do sleep 0.1; done; cat '{root}/admin_token'"
    small_disk = small_disk.replace("exec", f"{copy} > '{token_file}') & exec")
    launcher = (*launcher[:-2], small_disk, "sh")
    process = subprocess.Popen(
        [*launcher, sys.executable, "-m", "triptych", "hub", "serve", "--root", str(root),
         "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("hub: ").strip()
        deadline = time.monotonic() + 120
        while not token_file.exists() or not token_file.read_text().strip():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        headers = {"Authorization": f"Bearer {token_file.read_text().strip()}"}
        _fill(url, headers)
    finally:
        process.kill()
        process.wait(timeout=60)
        assert process.stdout is not None
        process.stdout.close()


def _fill(url: str, headers: dict[str, str]) -> None:
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        deadline = time.monotonic() + 120
        while True:
            try:
                client.post("/api/repos/create", json={"name": "busy"}).raise_for_status()
                break
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        kept = upload(client, "admin/busy", "kept")
        codes = set()
        for number in range(40):
            data = os.urandom(900_000)
            sha256 = hashlib.sha256(data).hexdigest()
            batch = {"operation": "upload", "objects": [{"oid": sha256, "size": len(data)}]}
            answer = client.post("/admin/busy.git/info/lfs/objects/batch", json=batch)
            codes.add(answer.status_code)
            if answer.status_code != 200:
                break
            href = answer.json()["objects"][0]["actions"]["upload"]["href"]
            put = client.put(href, content=data)
            codes.add(put.status_code)
            if put.status_code != 200:
                break
            encoded = base64.b64encode(data).decode()
            value = {"path": f"{number}.txt", "content": encoded, "encoding": "base64"}
            line = json.dumps({"key": "file", "value": value})
            codes.add(client.post("/api/models/admin/busy/commit/main", content=line).status_code)
        assert 507 in codes
        assert codes <= {200, 507}
        assert client.get("/admin/busy/resolve/main/kept/w.bin").content == content("kept", 400_000)
        titles = [c["id"] for c in client.get("/api/models/admin/busy/commits/main").json()]
        assert kept in titles
