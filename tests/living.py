"""A whole house for the browser: `triptych up` with a Space, and an application that asks it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from safetensors.numpy import save

from triptych.hub.client import Hub
from triptych.hub.deployments import Deployer
from triptych.hub.ledger import Ledger
from triptych.hub.repository import Repo
from triptych.processes import free_port

SPACE = "admin/company-base-llm"
APP = Path(__file__).parent / "panels" / "console" / "space"


class Elsewhere(BaseHTTPRequestHandler):
    """Another provider: it speaks OpenAI's API, streams included."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.tell({"object": "list", "data": [{"id": "m", "object": "model"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        whole = {"id": "c", "created": 1, "model": "m"}
        if not asked.get("stream"):
            choice = {"index": 0, "finish_reason": "stop",
                      "message": {"role": "assistant", "content": "From elsewhere."}}  # fmt: skip
            self.tell(whole | {"object": "chat.completion", "choices": [choice]})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for word in ("From ", "elsewhere.", ""):
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            chunk = whole | {"object": "chat.completion.chunk", "choices": [choice]}
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            time.sleep(0.1)
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def tell(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@dataclass
class House:
    """A running Triptych: where its parts listen, and who may do what."""

    home: Path
    web: str
    gateway: str
    hub: str
    revisions: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        return (self.home / "gateway" / "admin-key").read_text().strip()

    @property
    def token(self) -> str:
        return (self.home / "hub" / "admin_token").read_text().strip()

    def call(
        self, method: str, path: str, body: Any = None, key: str = "", company: str = ""
    ) -> Any:
        """Ask the gateway; an answer of 400 and above is given as its status."""
        headers = {
            "authorization": f"Bearer {key or self.key}",
            "content-type": "application/json",
        }
        if company:
            headers["x-triptych-company"] = company
        request = urllib.request.Request(
            self.gateway + path,
            None if body is None else json.dumps(body).encode(),
            headers,
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            error.read()
            return error.code

    def chat(self, key: str = "", model: str = "base", company: str = "") -> Any:
        """Ask a question through OpenAI's API."""
        body = {"model": model, "messages": [{"role": "user", "content": "who answers?"}]}
        return self.call("POST", "/v1/chat/completions", body, key, company)

    def use_spaces(self) -> None:
        """Let the Spaces answer, as an admin would."""
        self.call("PUT", "/admin/flags/provider.hf_spaces", {"value": True})
        self.call("PUT", "/admin/flags/provider", {"value": "auto"})

    def requests(self, **wanted: str) -> list[dict[str, Any]]:
        """List what was recorded, newest first, once there is something."""
        deadline = time.monotonic() + 60
        while not (rows := self.call("GET", f"/api/requests?{urlencode(wanted)}")["requests"]):
            assert time.monotonic() < deadline, wanted
            time.sleep(0.1)
        return list(rows)

    def stream(self, key: str = "") -> tuple[str, str]:
        """Ask for a streamed answer; gives who answered, and the text where it came whole."""
        body = {"model": "base", "stream": True,
                "messages": [{"role": "user", "content": "who answers?"}]}  # fmt: skip
        request = urllib.request.Request(
            f"{self.gateway}/v1/chat/completions", json.dumps(body).encode(),
            {"authorization": f"Bearer {key or self.key}", "content-type": "application/json"},
        )  # fmt: skip
        text, whole = "", False
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                by = answer.headers["x-triptych-provider"]
                for line in answer:
                    if line.startswith(b"data: [DONE]"):
                        whole = True
                    elif line.startswith(b"data: "):
                        event = json.loads(line[6:])
                        if "error" in event:
                            return f"{by} failed: {event['error']}", ""
                        for choice in event.get("choices", ()):
                            text += choice["delta"].get("content") or ""
        except (urllib.error.HTTPError, OSError) as error:
            return f"failed: {error}", ""
        return by, text if whole else ""


class Client:
    """An application that streams one answer after another, and remembers who gave them."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.answers: list[tuple[str, str]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._done.is_set():
            self.answers.append(self.house.stream())

    def wait_for(self, provider: str) -> None:
        """Wait until another answer came from a provider."""
        before, deadline = len(self.answers), time.monotonic() + 120
        while provider not in (by for by, _ in self.answers[before:]):
            assert time.monotonic() < deadline, self.answers[before:]
            time.sleep(0.05)

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(timeout=90)


def profile(elsewhere: int) -> str:
    """Write the settings of the house: a Space, and another provider."""
    return f"""
[gateway.upstreams.space-base]
provider = "hf_spaces"
address = "{SPACE}"
models = {{ base = "", company = "" }}

[gateway.upstreams.elsewhere]
provider = "openai"
address = "http://127.0.0.1:{elsewhere}/v1"
models = {{ base = "m" }}
external = false
"""


@contextmanager
def living(home: Path) -> Iterator[House]:
    """Bring a house up with one command, with a Space that serves a published model."""
    with running(home) as house:
        furnish(house)
        yield house


@contextmanager
def running(home: Path) -> Iterator[House]:
    """Bring a house up with one command, with whatever is in its home."""
    home.mkdir(parents=True, exist_ok=True)
    other = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    (home / "profile.toml").write_text(profile(other.server_port))
    ports = {name: free_port() for name in ("HUB", "GATEWAY", "PANELS")}
    variables = {f"TRIPTYCH_{name}__PORT": str(port) for name, port in ports.items()}
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_TOKEN", "HF_ENDPOINT")}
    environment |= variables | {"TRIPTYCH_HOME": str(home)}
    command = [sys.executable, "-m", "triptych", "up", "--profile", str(home / "profile.toml")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if "logs" in line:
                break
        assert process.poll() is None, said
        address = next(line for line in said if "is up" in line).rpartition(": ")[2].strip()
        yield House(home, address, *(f"http://127.0.0.1:{ports[p]}" for p in ("GATEWAY", "HUB")))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
        process.stdout.close()
        other.shutdown()
        other.server_close()


def furnish(house: House) -> None:
    """Publish two revisions of a model and deploy the first to a Space."""
    hub = Hub(house.hub, house.token)
    repo = Repo("admin/base")
    hub.create(repo)
    for number in (1, 2):
        weights = save({"weight": np.full(4, number, dtype=np.float32)})
        files = {"config.json": b"{}", "model.safetensors": weights}
        house.revisions.append(hub.commit(repo, files, f"version {number}"))
    deployer = Deployer(hub, Ledger(house.home / "deployments"))
    deployer.deploy(f"admin/base@{house.revisions[0]}", Repo(SPACE, "space"), APP)
