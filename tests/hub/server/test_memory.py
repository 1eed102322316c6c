"""A large file costs the server a few blocks of memory, whichever way it travels."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.hub.server.conftest import HubProcess

LIMIT_BYTES = 64 * 2**20
BLOCK = 2**20


def blocks(size: int) -> Iterator[bytes]:
    """Yield bytes that do not compress, the same ones every time."""
    base = hashlib.shake_256(b"memory").digest(BLOCK)
    for number in range(size // BLOCK):
        yield number.to_bytes(8, "big") + base[8:]


def peak_bytes(hub: HubProcess) -> int:
    status = Path(f"/proc/{hub.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def through_lfs(hub: HubProcess, size: int) -> None:
    digest = hashlib.sha256()
    for block in blocks(size):
        digest.update(block)
    sha256 = digest.hexdigest()
    with httpx.Client(base_url=hub.url, headers=hub.headers, timeout=600) as client:
        client.post("/api/repos/create", json={"name": "big"}).raise_for_status()
        batch = {"operation": "upload", "objects": [{"oid": sha256, "size": size}]}
        answer = client.post("/admin/big.git/info/lfs/objects/batch", json=batch).json()
        href = answer["objects"][0]["actions"]["upload"]["href"]
        client.put(
            href, content=blocks(size), headers={"Content-Length": str(size)}
        ).raise_for_status()
        value = {"path": "big.bin", "oid": sha256, "size": size}
        line = json.dumps({"key": "lfsFile", "value": value})
        client.post("/api/models/admin/big/commit/main", content=line).raise_for_status()
        received = hashlib.sha256()
        with client.stream("GET", "/admin/big/resolve/main/big.bin") as answer_stream:
            for block in answer_stream.iter_raw():
                received.update(block)
        assert received.hexdigest() == sha256


def through_xet(hub: HubProcess, size: int, folder: Path) -> None:
    path = folder / "big.bin"
    with path.open("wb") as file:
        file.writelines(blocks(size))
    script = (
        "from huggingface_hub import HfApi; import sys; api = HfApi();"
        "api.create_repo('admin/xet');"
        "api.upload_file(path_or_fileobj=sys.argv[1], path_in_repo='big.bin', repo_id='admin/xet');"
        "print(api.hf_hub_download('admin/xet', 'big.bin'))"
    )
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "HF_HOME": str(folder),
        "HF_ENDPOINT": hub.url, "HF_TOKEN": (hub.root / "admin_token").read_text().strip(),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    with Path(done.stdout.strip()).open("rb") as ours, path.open("rb") as theirs:
        assert (
            hashlib.file_digest(ours, "sha256").digest()
            == hashlib.file_digest(theirs, "sha256").digest()
        )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, as CI can")
def test_a_large_file_costs_little_memory(
    hub_process: Callable[[Path], HubProcess], tmp_path: Path
) -> None:
    hub = hub_process(tmp_path / "hub")
    before = peak_bytes(hub)
    through_lfs(hub, 160 * BLOCK)
    assert peak_bytes(hub) - before < LIMIT_BYTES


@pytest.mark.prove
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", ["lfs", "xet"])
def test_two_gigabytes_cost_little_memory(
    hub_process: Callable[[Path], HubProcess],
    tmp_path: Path,
    way: str,
    proven: Callable[..., None],
) -> None:
    hub = hub_process(tmp_path / "hub")
    before = peak_bytes(hub)
    if way == "lfs":
        through_lfs(hub, 2048 * BLOCK)
    else:
        through_xet(hub, 2048 * BLOCK, tmp_path)
    grown = peak_bytes(hub) - before
    assert grown < LIMIT_BYTES
    found = {"file, MiB": 2048, "server's growth, MiB": round(grown / 2**20, 1)}
    proven("proofs-hub", f"a large file there and back over {way}", found)
