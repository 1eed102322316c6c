"""Large bodies past the event loop: the same answers, and nothing left borrowed."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from triptych.hub.server.http.bodies import connection
from triptych.hub.server.http.bodies.connection import LEAST_BYTES, SocketProtocol

if TYPE_CHECKING:
    from tests.hub.server.conftest import RunningHub

SIZE = LEAST_BYTES + 12_345


def wait_for(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.fixture
def http(hub: RunningHub) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {hub.admin_token}"}
    with httpx.Client(base_url=hub.url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note how connections are used, and expect all of them back."""
    used: list[str] = []
    receive, send = connection.Connection.receive, connection.Connection.send

    async def noted_receive(self: Any, *arguments: Any) -> None:
        used.append("received")
        await receive(self, *arguments)

    async def noted_send(self: Any, *arguments: Any) -> None:
        used.append("sent")
        await send(self, *arguments)

    monkeypatch.setattr(connection.Connection, "receive", noted_receive)
    monkeypatch.setattr(connection.Connection, "send", noted_send)
    yield used
    wait_for(lambda: SocketProtocol.sockets_taken == 0, "all connections to be given back")


def address(http: httpx.Client, repo_id: str, content: bytes) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    body = {"operation": "upload", "objects": [{"oid": sha256, "size": len(content)}]}
    answer = http.post(f"/{repo_id}.git/info/lfs/objects/batch", json=body).json()
    return str(answer["objects"][0]["actions"]["upload"]["href"])


def commit(http: httpx.Client, repo_id: str, content: bytes) -> int:
    sha256 = hashlib.sha256(content).hexdigest()
    value = {"path": "w.bin", "oid": sha256, "size": len(content)}
    line = json.dumps({"key": "lfsFile", "value": value})
    return http.post(f"/api/models/{repo_id}/commit/main", content=line).status_code


def test_a_large_file_travels_past_the_event_loop_and_back(
    hub: RunningHub, http: httpx.Client, repo_id: str, lent: list[str]
) -> None:
    hub.api().create_repo(repo_id)
    content = os.urandom(2 * SIZE)
    put = http.put(address(http, repo_id, content), content=content)
    assert (put.status_code, put.json()) == (200, {"success": True})
    assert commit(http, repo_id, content) == 200

    url = f"/{repo_id}/resolve/main/w.bin"
    whole = http.get(url)
    assert whole.content == content
    assert int(whole.headers["content-length"]) == len(content)
    part = http.get(url, headers={"Range": f"bytes=5-{SIZE + 4}"})
    assert (part.status_code, part.content) == (206, content[5 : SIZE + 5])
    assert http.head(url).headers["content-length"] == str(len(content))
    assert http.get(url, headers={"Range": "bytes=-10"}).content == content[-10:]
    assert lent == ["received", "sent", "sent"]


def test_what_is_refused_while_it_comes_is_answered_in_words(
    hub: RunningHub, http: httpx.Client, repo_id: str, lent: list[str]
) -> None:
    hub.api().create_repo(repo_id)
    content = os.urandom(SIZE)
    href = address(http, repo_id, content)
    other = http.put(href, content=os.urandom(SIZE))
    assert (other.status_code, "sha256" in other.json()["error"]) == (422, True)
    assert http.put(href, content=content + bytes(SIZE)).status_code == 413
    assert http.put(href, content=content[:-1]).status_code == 422
    assert not list(hub.hub.layout.incoming.iterdir())
    assert http.put(href, content=content).status_code == 200
    assert lent == ["received"] * 4


def test_a_body_of_unknown_length_takes_the_ordinary_way(
    hub: RunningHub, http: httpx.Client, repo_id: str, lent: list[str]
) -> None:
    hub.api().create_repo(repo_id)
    content = os.urandom(SIZE)
    pieces = (content[start : start + 100_000] for start in range(0, SIZE, 100_000))
    assert http.put(address(http, repo_id, content), content=pieces).status_code == 200
    assert lent == []


def test_more_than_are_lent_take_the_ordinary_way(
    hub: RunningHub, http: httpx.Client, repo_id: str, lent: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(connection, "MOST", 0)
    hub.api().create_repo(repo_id)
    content = os.urandom(SIZE)
    assert http.put(address(http, repo_id, content), content=content).status_code == 200
    assert commit(http, repo_id, content) == 200
    assert http.get(f"/{repo_id}/resolve/main/w.bin").content == content
    assert lent == []


def test_clients_that_go_or_wait_leave_nothing_behind(
    hub: RunningHub, http: httpx.Client, repo_id: str, lent: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(connection, "PATIENCE_S", 0.5)
    hub.api().create_repo(repo_id)
    content = os.urandom(4 * SIZE)
    parts = urlsplit(address(http, repo_id, content))
    place = (parts.hostname, parts.port)
    head = (
        f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Expect: 100-continue\r\nContent-Length: {len(content)}\r\n\r\n"
    ).encode()

    with socket.create_connection(place, timeout=60) as leaving:
        leaving.sendall(head)
        assert leaving.recv(100).startswith(b"HTTP/1.1 100 ")
        leaving.sendall(content[:SIZE])
    with socket.create_connection(place, timeout=60) as silent:
        silent.sendall(head + content[:SIZE])
        silent.recv(100)
        assert silent.recv(100) == b"", "a silent client is not waited for"
    wait_for(lambda: not list(hub.hub.layout.incoming.iterdir()), "no file half there")

    monkeypatch.setattr(connection, "PATIENCE_S", 60.0)
    assert http.put(address(http, repo_id, content), content=content).status_code == 200
    assert commit(http, repo_id, content) == 200
    get = f"GET /{repo_id}/resolve/main/w.bin HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()

    def look_and_go() -> None:
        with socket.create_connection(place, timeout=60) as client:
            client.sendall(get)
            client.recv(1000)

    hands = [threading.Thread(target=look_and_go) for _ in range(2 * connection.MOST)]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()
    assert http.get(f"/{repo_id}/resolve/main/w.bin").content == content
