"""The Console over a real gateway with a scripted provider, and one that is away."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import serving
from fastapi import FastAPI
from gateway_process import Process
from httpx2 import Response
from living import House, living
from starlette.testclient import TestClient

from triptych.panels.console.app import build_app
from triptych.panels.sign_in import one_time

Opened = Callable[..., Any]
HUB_AWAY = "http://127.0.0.1:9"
PROVIDERS = """
[gateway]
port = 0
allow_private_addresses = true
[gateway.upstreams.first]
provider = "scripted"
models = { base = "echo" }
[gateway.upstreams.second]
provider = "local"
address = "http://127.0.0.1:9"
models = { base = "absent" }
"""


class Gateway(Process):
    """A gateway process of its own, called with its first admin's key unless another is named."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._config.write_text(PROVIDERS)

    def call(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """Return the answer's JSON, or the status of a refusal."""
        request = urllib.request.Request(
            self.url + path, None if body is None else json.dumps(body).encode(),
            {"authorization": f"Bearer {key or self.key}", "content-type": "application/json"},
            method=method,
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code

    def chat(self, text: str, key: str = "", model: str = "base") -> Any:
        """Return the answer to one message."""
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        return self.call("POST", "/v1/chat/completions", body, key)


class Reader:
    """A signed-in user without a browser, who reads pages and sends their forms."""

    def __init__(self, app: FastAPI, key: str) -> None:
        self.client = TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)
        self._csrf = self._token("/sign-in")
        if key:
            assert self.post("/sign-in", key=key, then="/console/").status_code == 303

    def get(self, path: str) -> Response:
        """Return a page."""
        return self.client.get(path)

    def text(self, path: str) -> str:
        """Return the HTML of a page that must be there."""
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def post(self, path: str, *, by_htmx: bool = False, **fields: Any) -> Response:
        """Send a form with its CSRF token; `by_htmx` wants the fragment only."""
        headers = {"hx-request": "true"} if by_htmx else {}
        return self.client.post(path, data={**fields, "csrf": self._csrf}, headers=headers)

    def _token(self, path: str) -> str:
        found = re.search(r'name="csrf" value="(\w+)"', self.client.get(path).text)
        assert found is not None
        return found[1]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run one gateway for all tests of a file."""
    process = Gateway(tmp_path_factory.mktemp("home"))
    process.start()
    yield process
    process.kill(15)


@pytest.fixture
def console_app(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """Return the Console for that gateway, with its home."""
    monkeypatch.setenv("TRIPTYCH_HOME", str(gateway.home))
    return build_app(gateway.url, HUB_AWAY)


@pytest.fixture
def sign_in(console_app: FastAPI) -> Callable[[str], Reader]:
    """Return a function that signs in with a key."""
    return lambda key: Reader(console_app, key)


@pytest.fixture
def admin(gateway: Gateway, sign_in: Callable[[str], Reader]) -> Reader:
    """Return the first admin, signed in."""
    return sign_in(gateway.key)


@pytest.fixture
def address(console_app: FastAPI) -> Iterator[str]:
    """Serve the Console on loopback."""
    with serving(console_app) as url:
        yield url


@pytest.fixture
def open_console(open_page: Callable[..., Any], address: str) -> Callable[..., Any]:
    """Return a function that opens a page of the Console in Chromium, signed in as first admin."""

    def open_at(path: str = "/console/", **options: Any) -> Any:
        return open_page(one_time.issue(address, path), **options)

    return open_at


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with living(tmp_path_factory.mktemp("installation") / "home") as found:
        yield found


@pytest.fixture
def console(house: House, open_page: Opened) -> Opened:
    """Open a page of the Console, signed in with the first admin's key unless another is given."""

    def sign_in(path: str = "/console/", key: str = "", **options: Any) -> Any:
        page = open_page(f"{house.web}{path}", **options)
        page.get_by_label("Your key").fill(key or house.key)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.get_by_role("navigation", name="Console").wait_for()
        return page

    return sign_in
