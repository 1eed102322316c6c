"""How fast the embedded hub moves files, against a plain copy of the same file on the same disk.

`python benchmarks/hub.py [--gigabytes 1] [--rounds 3] [--parts large many list]` starts a hub in a
process of its own and drives it with the unmodified client, each call in a fresh process so that
no cache helps: one large file over LFS and over Xet, a thousand small files in one commit, sixteen
clients pulling one model at once, the list of ten thousand repositories, and the server's peak of
memory.

The measure is `cp` of the same file, read from the disk (its pages are dropped first, as they are
before every transfer) and synced to it. The client costs time of its own, most of all when it
downloads: what it reaches against a server that neither hashes nor writes (`Ceiling`, which sends
with the kernel's sendfile and throws away what it gets) bounds every hub on this machine. All of
it is taken by turns. Writes results/hub.json and results/hub.md.
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

from report import RESULTS, environment, write_results

PARTS = ["large", "many", "list"]
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
CEILING_UPLOAD = """
import sys, time
from huggingface_hub import CommitOperationAdd
from huggingface_hub.utils import http_backoff
start = time.perf_counter()
work = CommitOperationAdd("big.bin", sys.argv[1])
work.upload_info.sha256
with work.as_file(with_tqdm=True) as file:
    http_backoff("PUT", sys.argv[2], data=file).raise_for_status()
print(time.perf_counter() - start)
"""
CEILING_DOWNLOAD = """
import sys, time
from huggingface_hub.file_download import http_get
start = time.perf_counter()
with open(sys.argv[2], "wb") as file:
    http_get(sys.argv[1], file)
print(time.perf_counter() - start)
"""
CEILING = """
import os, socket, sys
size, path = int(sys.argv[1]), sys.argv[2]
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
block = bytearray(2**20)
while True:
    client, _ = listener.accept()
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        head += client.recv(65536)
    head, _, body = head.partition(b"\\r\\n\\r\\n")
    answer = b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n"
    if head.startswith(b"PUT"):
        left = size - len(body)
        while left:
            left -= client.recv_into(block, min(left, len(block)))
        client.sendall(answer % 0)
    else:
        client.sendall(answer % size)
        with open(path, "rb") as file:
            client.sendfile(file)
    client.close()
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
        variables = {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": (self.root / "admin_token").read_text().strip(),
        }
        if not xet:
            variables["HF_HUB_DISABLE_XET"] = "1"
        return run_client(script, *arguments, folder=self.root.parent, **variables)

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


class Ceiling:
    """A server that costs next to nothing, to see what the client alone costs."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.process = subprocess.Popen(
            [sys.executable, "-c", CEILING, str(size), str(path)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{self.process.stdout.readline().strip()}/big.bin"

    def upload_s(self) -> float:
        """Time what an upload costs the client: hash and send."""
        drop(self.path)
        return run_client(CEILING_UPLOAD, str(self.path), self.url, folder=self.path.parent)[0]

    def download_s(self) -> float:
        """Time what a download costs the client: receive and write."""
        drop(self.path)
        target = self.path.with_name("received.bin")
        found = run_client(CEILING_DOWNLOAD, self.url, str(target), folder=self.path.parent)
        target.unlink()
        return found[0]

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def run_client(script: str, *arguments: str, folder: Path, **variables: str) -> list[float]:
    """Run a script in a fresh process and a fresh home; return the figures it prints."""
    with tempfile.TemporaryDirectory(dir=folder) as home:
        base = {"PATH": os.environ["PATH"], "HOME": home, "HF_HOME": home}
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env={**base, "HF_HUB_DISABLE_PROGRESS_BARS": "1", **variables},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    return [float(word) for word in done.stdout.split()]


def drop(path: Path) -> None:
    """Forget the pages of a file, so that whoever reads it next reads from the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def drop_large(root: Path, size: int) -> None:
    """Forget the pages of every large file a hub keeps."""
    for path in root.rglob("*"):
        if path.is_file() and path.stat().st_size > min(size // 2, 2**22):
            drop(path)


def write_random(path: Path, size: int) -> None:
    """Write bytes that nothing can compress."""
    with path.open("wb") as file:
        while size > 0:
            size -= file.write(os.urandom(min(BLOCK_BYTES, size)))
        os.fsync(file.fileno())


def copy_s(source: Path, folder: Path, *, durable: bool = True, verified: bool = False) -> float:
    """Time a plain copy from the disk.

    `durable` waits until the disk has it, as the hub does; `verified` hashes both ends, as LFS
    asks for.
    """
    drop(source)
    target = folder / "copy.bin"
    start = time.perf_counter()
    if verified:
        with source.open("rb") as file:
            hashlib.file_digest(file, "sha256")
    subprocess.run(["cp", str(source), str(target)], check=True)
    with target.open("rb") as file:
        if durable:
            os.fsync(file.fileno())
        if verified:
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
        ceiling = Ceiling(source, size)
        note(UNSYNCED, copy_s(source, folder, durable=False))
        note(COPY, copy_s(source, folder))
        note(VERIFIED, copy_s(source, folder, verified=True))
        note("client alone, upload", ceiling.upload_s())
        note("client alone, download", ceiling.download_s())
        ceiling.stop()
        for way in ("LFS", "Xet"):
            repo_id = f"admin/{way.lower()}-{number}"
            xet = way == "Xet"
            drop(source)
            note(f"{way} upload", server.client(UPLOAD, str(source), repo_id, xet=xet)[0])
            drop_large(server.root, size)
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                note(f"{way} download", server.client(DOWNLOAD, repo_id, cache, xet=xet)[0])
            server.client(_DELETE, repo_id)
            server.collect()
        source.unlink()
    speeds = {name: size / 1e6 / statistics.median(taken) for name, taken in times.items()}
    found: dict[str, Any] = {f"{name}, MB/s": round(speed) for name, speed in speeds.items()}
    for way in ("LFS", "Xet"):
        for direction, measure in (("upload", COPY), ("download", UNSYNCED)):
            speed, name = speeds[f"{way} {direction}"], f"{way} {direction}, share of"
            found[f"{name} a {measure}"] = round(speed / speeds[measure], 2)
            if way == "LFS":
                alone = speeds[f"client alone, {direction}"]
                found[f"{name} what the client alone can do"] = round(speed / alone, 2)
    verified = speeds["LFS upload"] / speeds[VERIFIED]
    found[f"LFS upload, share of a {VERIFIED}"] = round(verified, 2)
    return found


UNSYNCED, COPY = "plain copy", "plain copy, synced"
VERIFIED = "plain copy, synced, hashed at both ends"


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
    from triptych.hub.server.repositories.lifecycle import create
    from triptych.hub.server.storage.hub import Hub, ensure_admin
    from triptych.hub.server.storage.identity.accounts import find_account
    from triptych.hub.server.storage.identity.tokens import authenticate

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


def serve_and_measure(folder: Path, size: int, rounds: int, parts: list[str]) -> dict[str, Any]:
    """Measure what one hub does with files."""
    found: dict[str, Any] = {}
    server = Server(folder / "hub")
    try:
        memory = {"at rest, MB": round(server.peak_bytes() / 1e6)}
        if "large" in parts:
            touch_memory(folder, 4 * size)
            found["one large file"] = transfers(server, folder, size, rounds)
            memory["peak, one large file, MB"] = round(server.peak_bytes() / 1e6)
            found["server's memory, large files"] = memory
        if "many" in parts:
            many = [
                server.client(COMMIT, f"admin/many-{n}", str(SMALL_FILES))[0] for n in range(rounds)
            ]
            found[f"{SMALL_FILES:,} small files in one commit, s"] = round(
                statistics.median(many), 2
            )
            found[f"{CLIENTS} clients pull one model"] = many_clients(server, folder)
            memory["peak, many clients, MB"] = round(server.peak_bytes() / 1e6)
            found["server's memory, many clients"] = memory
    finally:
        server.stop()
    return found


def list_many(folder: Path) -> dict[str, Any]:
    """List ten thousand repositories."""
    print("creating repositories", file=sys.stderr)
    start = time.perf_counter()
    fill(folder / "many")
    created_s = time.perf_counter() - start
    server = Server(folder / "many")
    try:
        first_s, all_s, count = server.client(LIST)
    finally:
        server.stop()
    return {
        "first page of 20, s": round(first_s, 3),
        "all, s": round(all_s, 2),
        "listed": int(count),
        "creating each, ms": round(created_s * 1e3 / REPOSITORIES, 1),
    }


def main() -> None:
    """Measure, and write the results; parts that are not measured keep theirs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to measure; default: the temporary one")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    before = RESULTS / "hub.json"
    found: dict[str, Any] = json.loads(before.read_text()) if args.parts != PARTS else {}
    found |= {**environment(), "gigabytes": args.gigabytes, "rounds": args.rounds}
    with tempfile.TemporaryDirectory(prefix="triptych-bench-", dir=args.folder) as temporary:
        folder, size = Path(temporary), int(args.gigabytes * 10**9)
        if {"large", "many"} & set(args.parts):
            found |= serve_and_measure(folder, size, args.rounds, args.parts)
        if "list" in args.parts:
            found[f"listing {REPOSITORIES:,} repositories"] = list_many(folder)
    write_results("hub", found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
