"""What the embedded hub's Spaces cost: starting, waking, and passing through the gate.

Each figure is taken against a hub that runs as a process of its own, with a real Space that it
starts by itself. "direct" asks the app's own port, "gate" its address on the hub.
`python benchmarks/spaces.py [--rounds 10]` writes results/spaces.json and .md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
BIG_BYTES = 256 * 2**20
REQUESTS = 2_000
APP = f"""
import os
import uvicorn

block = b"\\0" * 2**20

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    head = {{"type": "http.response.start", "status": 200}}
    if scope["path"] == "/big":
        await send({{**head, "headers": [(b"content-length", b"{BIG_BYTES}")]}})
        for _ in range({BIG_BYTES} // 2**20):
            await send({{"type": "http.response.body", "body": block, "more_body": True}})
        await send({{"type": "http.response.body", "body": b""}})
        return
    body = os.environ["PORT"].encode()
    await send({{**head, "headers": [(b"content-length", b"%d" % len(body))]}})
    await send({{"type": "http.response.body", "body": body}})

uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
"""


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="triptych-bench-") as temporary:
        root = Path(temporary) / "hub"
        process, address = start_hub(root)
        try:
            found = measure(address, (root / "admin_token").read_text().strip(), rounds)
        finally:
            process.terminate()
            process.wait(timeout=60)
    write({"load_before": load_before, **found}, rounds)


def start_hub(root: Path) -> tuple[subprocess.Popen[str], str]:
    """Start an embedded hub and wait until it answers."""
    command = [sys.executable, "-m", "triptych", "hub", "serve", "--port", "0", "--root", str(root)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    address = process.stdout.readline().removeprefix("hub: ").strip()
    while not (root / "admin_token").exists():
        time.sleep(0.05)
    time.sleep(1)
    return process, address


def measure(address: str, token: str, rounds: int) -> dict[str, Any]:
    """Run a Space through its life, then load it."""
    import httpx
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=address, token=token)
    repo_id = "admin/bench"
    api.create_repo(repo_id, repo_type="space", space_sdk="gradio")
    bearer = {"authorization": f"Bearer {token}"}

    def commit(number: int) -> None:
        files = {"app.py": f"# {number}\n{APP}", "README.md": "---\nsdk: gradio\n---\n"}
        operations = [CommitOperationAdd(path, text.encode()) for path, text in files.items()]
        sha = api.create_commit(repo_id, operations, commit_message="app", repo_type="space").oid
        until(lambda: api.get_space_runtime(repo_id).raw.get("sha") == sha)

    times: dict[str, list[float]] = {"commit to running": [], "wake on a request": []}
    for number in range(rounds):
        times["commit to running"].append(timed(lambda n=number: commit(n)))
    host = api.space_info(repo_id).host
    for _ in range(rounds):
        httpx.post(f"{address}/api/spaces/{repo_id}/sleep", headers=bearer).raise_for_status()
        times["wake on a request"].append(
            timed(lambda: httpx.get(host, timeout=60).raise_for_status())
        )
    direct = f"http://127.0.0.1:{httpx.get(host).text}"
    load = {name: asyncio.run(burden(at)) for name, at in (("direct", direct), ("gate", host))}
    return {"seconds": times, "load": load}


async def burden(address: str) -> dict[str, float]:
    """Ask one by one, then sixteen at once, then for something big."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=16)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask() -> float:
            began = time.perf_counter()
            async with session.get(address) as answer:
                await answer.read()
            return time.perf_counter() - began

        for _ in range(100):
            await ask()
        alone = [await ask() for _ in range(REQUESTS)]
        began = time.perf_counter()

        async def worker() -> None:
            for _ in range(REQUESTS // 16):
                await ask()

        await asyncio.gather(*(worker() for _ in range(16)))
        crowd_s = time.perf_counter() - began
        began = time.perf_counter()
        received = 0
        async with session.get(address + "/big") as answer:
            async for piece in answer.content.iter_any():
                received += len(piece)
        assert received == BIG_BYTES
        return {
            "latency_ms": 1e3 * statistics.median(alone),
            "latency_p99_ms": 1e3 * statistics.quantiles(alone, n=100)[98],
            "requests_per_s": REQUESTS // 16 * 16 / crowd_s,
            "download_mb_per_s": BIG_BYTES / 1e6 / (time.perf_counter() - began),
        }


def until(true: Callable[[], bool]) -> None:
    """Wait closely."""
    while not true():
        time.sleep(0.01)


def timed(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def write(found: dict[str, Any], rounds: int) -> None:
    """Write the results with date and machine."""
    result = {
        "format_version": 1,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "rounds": rounds,
        **found,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "spaces.json").write_text(json.dumps(result, indent=2) + "\n")
    lines = [
        "# Spaces",
        "",
        f"{result['date']}, {result['machine']}, {rounds} rounds, everything on this machine,"
        f" load average before: {found['load_before']:.1f}.",
        "",
        "| | median | slowest |",
        "|---|---|---|",
        *(
            f"| {name} | {statistics.median(times):.2f} s | {max(times):.2f} s |"
            for name, times in found["seconds"].items()
        ),
        "",
        "| | latency, median | latency, 99 % | requests/s, 16 clients | download |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {load['latency_ms']:.2f} ms | {load['latency_p99_ms']:.2f} ms"
            f" | {load['requests_per_s']:,.0f} | {load['download_mb_per_s']:,.0f} MB/s |"
            for name, load in found["load"].items()
        ),
    ]
    (RESULTS / "spaces.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
