"""What the gateway is measured beside, and the gateway itself: each in processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loadgen import request

from triptych.processes import free_port

PYTHON = sys.executable
NAIVE = """
import sys, httpx, uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
app = FastAPI()
client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{sys.argv[2]}")
@app.post("/v1/chat/completions")
async def hop(request: Request):
    body = await request.json()
    if not body.get("stream"):
        answer = await client.post("/v1/chat/completions", json=body)
        return Response(answer.content, answer.status_code, media_type="application/json")
    async def pieces():
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for piece in answer.aiter_raw():
                yield piece
    return StreamingResponse(pieces(), media_type="text/event-stream")
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
"""
LITELLM = """
model_list:
  - model_name: base
    litellm_params:
      model: openai/instant
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: sk-none
general_settings:
  master_key: sk-bench-7f3a9c
litellm_settings:
  callbacks: []
  telemetry: false
"""


class Bench:
    """Start what is measured, in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.upstream = free_port()

    @contextlib.contextmanager
    def process(
        self, command: list[str], port: int, path: str = "/", **env: str
    ) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
        """Run a server until the block ends; yield it and the seconds it took to answer."""
        log = (self.folder / f"{port}.log").open("wb")
        start = time.perf_counter()
        running = subprocess.Popen(command, env=os.environ | env, stdout=log, stderr=log)
        try:
            for _ in range(6000):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1).close()
                    break
                except urllib.error.HTTPError:
                    break
                except OSError:
                    time.sleep(0.01)
                if running.poll() is not None:
                    raise SystemExit((self.folder / f"{port}.log").read_text()[-2000:])
            yield running, time.perf_counter() - start
        finally:
            running.terminate()
            running.wait(30)

    def instant(self) -> Any:
        """Run the upstream; its own start is not measured."""
        script = str(Path(__file__).with_name("loadgen.py"))

        @contextlib.contextmanager
        def run() -> Iterator[None]:
            running = subprocess.Popen(
                [PYTHON, script, str(self.upstream)], stdout=subprocess.DEVNULL
            )
            time.sleep(0.7)
            try:
                yield
            finally:
                running.terminate()
                running.wait(10)

        return run()

    @contextlib.contextmanager
    def gateway(self, name: str, **settings: Any) -> Iterator[Gateway]:
        """Run the gateway in a home of its own, with its schema laid before."""
        home = self.folder / name
        home.mkdir()
        port = free_port()
        config = home / "gateway.toml"
        fixed = {"port": port, "limit_service": 10**9, "cache_bytes": 0, **settings}
        lines = [f"{key} = {json.dumps(value)}" for key, value in fixed.items()]
        config.write_text(
            "[gateway]\n" + "\n".join(lines) + "\n[gateway.upstreams.openai]\n"
            f'provider = "openai"\naddress = "http://127.0.0.1:{self.upstream}/v1"\n'
            'models = { base = "instant", company = "instant", abstraction = "instant" }\n'
        )
        env = {"TRIPTYCH_HOME": str(home)}
        command = [PYTHON, "-m", "triptych", "gateway"]
        subprocess.run(
            [*command, "flags", "--config", str(config)],
            env=os.environ | env, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        serve = [*command, "serve", "--config", str(config)]
        # Once before, so that the admin key is there and byte code is compiled.
        with self.process(serve, port, "/ready", **env):
            pass
        with self.process(serve, port, "/ready", **env) as (running, ready_s):
            key = (home / "gateway" / "admin-key").read_text().strip()
            yield Gateway(running.pid, port, key, ready_s)

    @contextlib.contextmanager
    def naive(self) -> Iterator[int]:
        script = self.folder / "naive.py"
        script.write_text(NAIVE)
        port = free_port()
        with self.process([PYTHON, str(script), str(port), str(self.upstream)], port):
            yield port

    @contextlib.contextmanager
    def litellm(self, python: str) -> Iterator[tuple[int, int, float]]:
        config = self.folder / "litellm.yaml"
        config.write_text(LITELLM.format(upstream=self.upstream))
        port = free_port()
        command = [
            str(Path(python).with_name("litellm")), "--config", str(config), "--port", str(port),
            "--host", "127.0.0.1",
        ]  # fmt: skip
        with self.process(
            command, port, "/health/liveliness", LITELLM_LOCAL_MODEL_COST_MAP="True"
        ) as (running, ready_s):
            yield port, running.pid, ready_s


class Gateway:
    """A running gateway: its process, port and key."""

    def __init__(self, pid: int, port: int, key: str, ready_s: float) -> None:
        self.pid, self.port, self.key, self.ready_s = pid, port, key, ready_s

    def rss_mb(self) -> float:
        """Return the resident memory of the process and its children."""
        return sum(resident_mb(pid) for pid in [self.pid, *children_of(self.pid)])

    def message(self, *, stream: bool = False, prompt: str = "") -> bytes:
        return request(self.port, self.key, stream=stream, model="auto", prompt=prompt)


def children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def resident_mb(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0
