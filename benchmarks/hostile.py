"""How long a hub keeps an honest reader waiting, quiet and beside hostile clients.

Usage: python benchmarks/hostile.py [SECONDS]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import report

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 15.0
STARS = "*a" * 24 + "*b"
CARD = "---\n" + "- a\n" * 200_000 + "---\n"


def waits(url: str, until_s: float) -> list[float]:
    """Ask for the health again and again; return the seconds of each."""
    found = []
    with httpx.Client(base_url=url, timeout=60) as client:
        while time.monotonic() < until_s:
            start = time.monotonic()
            client.get("/health").raise_for_status()
            found.append(time.monotonic() - start)
            time.sleep(0.02)
    return found


def attack(url: str, token: str, until_s: float, sent: list[int]) -> None:
    """Send patterns, cards and numbers that once froze the hub."""
    headers = {"Authorization": f"Bearer {token}"}
    asked = {"gitIgnore": STARS, "files": [{"path": "a" * 200, "size": 1, "sample": ""}]}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        while time.monotonic() < until_s:
            client.post("/api/models/admin/r/preupload/main", json=asked)
            client.post("/api/validate-yaml", json={"content": CARD, "repoType": "model"})
            client.get("/api/models", params={"limit": "9" * 5000})
            sent.append(3)


def figures(found: list[float]) -> dict[str, float]:
    """Return what matters of a series."""
    ordered = sorted(found)
    return {
        "requests": len(ordered),
        "p50_ms": round(ordered[len(ordered) // 2] * 1000, 1),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 1),
        "longest_ms": round(ordered[-1] * 1000, 1),
    }


def main() -> None:
    """Measure and write the result."""
    root = Path(tempfile.mkdtemp())
    command = [sys.executable, "-m", "triptych", "hub", "serve", "--root", str(root), "--port", "0"]
    machine = report.environment()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("hub: ").strip()
        token = (root / "admin_token").read_text().strip()
        name = {"name": "r", "type": "model"}
        headers = {"Authorization": f"Bearer {token}"}
        httpx.post(f"{url}/api/repos/create", json=name, headers=headers, timeout=60)
        quiet = figures(waits(url, time.monotonic() + SECONDS))
        sent: list[int] = []
        until_s = time.monotonic() + SECONDS
        attackers = [
            threading.Thread(target=attack, args=(url, token, until_s, sent)) for _ in "ab"
        ]
        for one in attackers:
            one.start()
        hostile = figures(waits(url, until_s))
        for one in attackers:
            one.join()
        process.terminate()
    found = {"hostile_requests": sum(sent), "quiet": quiet, "hostile": hostile}
    print(json.dumps(found, indent=1))
    report.write_results("hostile", {"machine": machine, "hub": found})


if __name__ == "__main__":
    main()
