"""`triptych gateway serve` as a process to be killed, and clients that remember its answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import aiohttp
import orjson
import psutil

CONFIG = """
[gateway]
port = 0
limit_service = 100000000
[gateway.upstreams.script]
provider = "scripted"
models = { base = "delay-2+echo", slow = "filler-20+pace-40" }
"""


class Process:
    """`triptych gateway serve` as a process of its own."""

    def __init__(self, home: Path, workers: int = 1, settings: str = "", **env: str) -> None:
        self.home = home
        config = home / "gateway.toml"
        config.write_text(CONFIG.replace("port = 0", f"port = 0\nworkers = {workers}\n{settings}"))
        self._environment = os.environ | {"TRIPTYCH_HOME": str(home)} | env
        self._config = config

    @property
    def log(self) -> Path:
        return self.home / "serve.log"

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "triptych", "gateway", *arguments]
        done = subprocess.run(
            [*command, "--config", str(self._config)],
            env=self._environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    def start(self, *wrapper: str) -> None:
        """Start it and wait until it is ready; `wrapper` is a command to run it under."""
        log = self.log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [*wrapper, sys.executable, "-m", "triptych", "gateway", "serve",
                 "--config", str(self._config)],
                env=self._environment, stderr=file,
            )  # fmt: skip
        for _ in range(4000):
            time.sleep(0.02)
            if found := re.search(r"gateway on (\S+)/v1", log.read_text()):
                self.url = found[1]
                try:
                    urllib.request.urlopen(self.url + "/ready").close()
                except OSError:
                    continue
                self.key = (self.home / "gateway" / "admin-key").read_text().strip()
                return
        raise AssertionError(f"the gateway did not get ready: {log.read_text()}")

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(120)

    def power_off(self) -> None:
        """End every process of the gateway at once, as a machine that goes off does."""
        running = psutil.Process(self.process.pid)
        every = [running, *running.children(recursive=True)]
        for one in every:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(every[1:], timeout=30)
        self.process.wait(120)


async def hammer(process: Process, amount: int, seen: set[str], cut: set[str]) -> None:
    """Ask until the process dies or enough was asked; remember every answer that came whole."""
    left = [amount]
    headers = {"authorization": f"Bearer {process.key}"}

    async def work(session: aiohttp.ClientSession) -> None:
        body = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}
        while left[0] > 0:
            left[0] -= 1
            request_id = ""
            try:
                async with session.post(process.url + "/v1/chat/completions", json=body) as got:
                    request_id = got.headers.get("x-request-id", "")
                    if got.status == 200 and orjson.loads(await got.read())["choices"]:
                        seen.add(request_id)
            except (aiohttp.ClientError, OSError, TimeoutError):
                if request_id:
                    cut.add(request_id)
                return

    async with aiohttp.ClientSession(headers=headers) as session:
        await asyncio.gather(*(work(session) for _ in range(8)))
