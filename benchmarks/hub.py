"""How fast the embedded hub moves files, against a plain copy of the same file on the same disk.

`python benchmarks/hub.py [--gigabytes 1] [--rounds 3]` starts a hub in a process of its own and
drives it with the unmodified client, each call in a fresh process so that no cache helps: one
large file over LFS and over Xet, a thousand small files in one commit, sixteen clients pulling
one model at once, the list of ten thousand repositories, and the server's peak of memory. The
copies are taken in turn with the transfers. Writes results/hub.json and results/hub.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from report import environment, write_results

CLIENTS = 16
REPOSITORIES = 10_000
SMALL_FILES = 1_000
PULLED_BYTES = 200_000_000
BLOCK_BYTES = 2**24

UPLOAD = """
import sys, time
from huggingface_hub import HfApi
path, repo_id = sys.argv[1:]
api = HfApi(); api.create_repo(repo_id, exist_ok=True)
start = time.perf_counter()
api.upload_file(path_or_fileobj=path, path_in_repo="big.bin", repo_id=repo_id)
print(time.perf_counter() - start)
"""
DOWNLOAD = """
import sys, time
from huggingface_hub import hf_hub_download
start = time.perf_counter()
hf_hub_download(sys.argv[1], "big.bin", cache_dir=sys.argv[2])
print(time.perf_counter() - start)
"""
COMMIT = """
import sys, time
from huggingface_hub import CommitOperationAdd, HfApi
api = HfApi(); api.create_repo(sys.argv[1], exist_ok=True)
work = [CommitOperationAdd(f"{n % 20}/{n}.txt", b"%d %d" % (n, time.time_ns()))
        for n in range(int(sys.argv[2]))]
start = time.perf_counter()
api.create_commit(sys.argv[1], work, commit_message="many")
print(time.perf_counter() - start)
"""
LIST = """
import time
from huggingface_hub import HfApi
api = HfApi()
start = time.perf_counter()
next(iter(api.list_models(limit=20)))
first = time.perf_counter() - start
start = time.perf_counter()
count = sum(1 for _ in api.list_models())
print(first, time.perf_counter() - start, count)
"""


class Server:
    """A hub in a process of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.process = subprocess.Popen(
            [sys.executable, "-m", "triptych", "hub", "serve", "--root", str(root), "--port", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().removeprefix("hub: ").strip()

    def peak_bytes(self) -> int:
        """Return the most memory the process ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def client(self, script: str, *arguments: str, xet: bool = True) -> list[float]:
        """Run a script with the unmodified client and return the figures it prints."""
        with tempfile.TemporaryDirectory(dir=self.root.parent) as home:
            variables = {
                "PATH": os.environ["PATH"], "HOME": home, "HF_HOME": home,
                "HF_ENDPOINT": self.url, "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "HF_TOKEN": (self.root / "admin_token").read_text().strip(),
            }  # fmt: skip
            if not xet:
                variables["HF_HUB_DISABLE_XET"] = "1"
            done = subprocess.run(
                [sys.executable, "-c", script, *arguments],
                env=variables, capture_output=True, text=True, check=True,
            )  # fmt: skip
        return [float(word) for word in done.stdout.split()]

    def collect(self) -> None:
        """Remove what was deleted."""
        subprocess.run(
            [sys.executable, "-m", "triptych", "hub", "gc", "--root", str(self.root),
             "--grace-s", "0"],
            capture_output=True, check=True,
        )  # fmt: skip

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(timeout=60)


def write_random(path: Path, size: int) -> None:
    """Write bytes that nothing can compress."""
    with path.open("wb") as file:
        while size > 0:
            size -= file.write(os.urandom(min(BLOCK_BYTES, size)))
        os.fsync(file.fileno())


def copy_s(source: Path, folder: Path, *, durable: bool) -> float:
    """Time a plain copy; with `durable`, until the disk has it, as the hub waits too."""
    target = folder / "copy.bin"
    start = time.perf_counter()
    shutil.copyfile(source, target)
    if durable:
        with target.open("rb") as file:
            os.fsync(file.fileno())
    elapsed_s = time.perf_counter() - start
    target.unlink()
    return elapsed_s


def verified_copy_s(source: Path, folder: Path) -> float:
    """Time what LFS asks for without a network: hash, copy, sync, hash again."""
    start = time.perf_counter()
    with source.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    target = folder / "copy.bin"
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
        hashlib.file_digest(file, "sha256")
    elapsed_s = time.perf_counter() - start
    target.unlink()
    return elapsed_s


def touch_memory(folder: Path, size: int) -> None:
    """Fill the page cache once, and empty it.

    On a virtual machine memory costs several times more when it is used for the first time.
    """
    path = folder / "warm.bin"
    with path.open("wb") as file:
        for _ in range(0, size, BLOCK_BYTES):
            file.write(bytes(BLOCK_BYTES))
    path.unlink()


def transfers(server: Server, folder: Path, size: int, rounds: int) -> dict[str, Any]:
    """Move one large file up and down, over LFS and over Xet, by turns with plain copies."""
    times: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        times.setdefault(name, []).append(seconds)
        print(f"{name}: {size / 1e6 / seconds:,.0f} MB/s", file=sys.stderr)

    for number in range(rounds):
        source = folder / f"big-{number}.bin"
        write_random(source, size)
        for way in ("LFS", "Xet"):
            repo_id = f"admin/{way.lower()}-{number}"
            xet = way == "Xet"
            note("copy", copy_s(source, folder, durable=False))
            note("copy, synced", copy_s(source, folder, durable=True))
            note("copy, synced, hashed at both ends", verified_copy_s(source, folder))
            note(f"{way} upload", server.client(UPLOAD, str(source), repo_id, xet=xet)[0])
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                note(f"{way} download", server.client(DOWNLOAD, repo_id, cache, xet=xet)[0])
            server.client(_DELETE, repo_id)
            server.collect()
        source.unlink()
    speeds = {name: size / 1e6 / statistics.median(taken) for name, taken in times.items()}
    found = {f"{name}, MB/s": round(speed) for name, speed in speeds.items()}
    verified = speeds["copy, synced, hashed at both ends"]
    found["LFS upload, share of a verified copy"] = round(speeds["LFS upload"] / verified, 2)
    for way in ("LFS", "Xet"):
        up = speeds[f"{way} upload"] / speeds["copy, synced"]
        down = speeds[f"{way} download"] / speeds["copy"]
        down_synced = speeds[f"{way} download"] / speeds["copy, synced"]
        found[f"{way} upload, share of a synced copy"] = round(up, 2)
        found[f"{way} download, share of a copy"] = round(down, 2)
        found[f"{way} download, share of a synced copy"] = round(down_synced, 2)
    return found


_DELETE = "import sys; from huggingface_hub import HfApi; HfApi().delete_repo(sys.argv[1])"


def many_clients(server: Server, folder: Path) -> dict[str, Any]:
    """Let sixteen clients pull the same model at once."""
    source = folder / "model.bin"
    write_random(source, PULLED_BYTES)
    server.client(UPLOAD, str(source), "admin/pulled", xet=False)

    def pull(number: int) -> float:
        cache = str(folder / f"cache-{number}")
        seconds = server.client(DOWNLOAD, "admin/pulled", cache, xet=False)[0]
        shutil.rmtree(cache)
        return seconds

    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as hands:
        taken = list(hands.map(pull, range(CLIENTS)))
    elapsed_s = time.perf_counter() - start
    return {
        "clients": CLIENTS,
        "MB each": PULLED_BYTES // 10**6,
        "all done after, s": round(elapsed_s, 2),
        "together, MB/s (starting the clients included)": round(
            CLIENTS * PULLED_BYTES / 1e6 / elapsed_s
        ),
        "slowest client, s": round(max(taken), 2),
    }


def fill(root: Path) -> None:
    """Create ten thousand real repositories, the quick way: inside, before the hub serves."""
    from triptych.config.hub import HubConfig
    from triptych.hub.server.identity.accounts import find_account
    from triptych.hub.server.identity.tokens import authenticate
    from triptych.hub.server.repositories.lifecycle import create
    from triptych.hub.server.state import Hub, ensure_admin

    hub = Hub(HubConfig(root=str(root)))
    ensure_admin(hub)
    identity = authenticate(hub.database, hub.layout.admin_token.read_text().strip())
    account = find_account(hub.database, "admin")
    assert account is not None
    with ThreadPoolExecutor(4) as hands:
        for _ in hands.map(
            lambda n: create(hub, identity, account, kind="model", name=f"m{n:05d}", private=False),
            range(REPOSITORIES),
        ):
            pass
    hub.close()


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to measure; default: the temporary one")
    args = parser.parse_args()
    found: dict[str, Any] = {**environment(), "gigabytes": args.gigabytes, "rounds": args.rounds}
    with tempfile.TemporaryDirectory(prefix="triptych-bench-", dir=args.folder) as temporary:
        folder = Path(temporary)
        server = Server(folder / "hub")
        try:
            idle_bytes = server.peak_bytes()
            size = int(args.gigabytes * 10**9)
            touch_memory(folder, 4 * size)
            found["one large file"] = transfers(server, folder, size, args.rounds)
            large_bytes = server.peak_bytes()
            many = [
                server.client(COMMIT, f"admin/many-{n}", str(SMALL_FILES))[0]
                for n in range(args.rounds)
            ]
            found[f"{SMALL_FILES:,} small files in one commit, s"] = round(
                statistics.median(many), 2
            )
            found[f"{CLIENTS} clients pull one model"] = many_clients(server, folder)
            found["server's memory"] = {
                "at rest, MB": round(idle_bytes / 1e6),
                "peak, one large file, MB": round(large_bytes / 1e6),
                "peak, everything, MB": round(server.peak_bytes() / 1e6),
            }
        finally:
            server.stop()
        print("creating repositories", file=sys.stderr)
        start = time.perf_counter()
        fill(folder / "many")
        created_s = time.perf_counter() - start
        server = Server(folder / "many")
        try:
            first_s, all_s, count = server.client(LIST)
        finally:
            server.stop()
        found[f"listing {REPOSITORIES:,} repositories"] = {
            "first page of 20, s": round(first_s, 3),
            "all, s": round(all_s, 2),
            "listed": int(count),
            "creating each, ms": round(created_s * 1e3 / REPOSITORIES, 1),
        }
    write_results("hub", found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
