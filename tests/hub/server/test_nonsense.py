"""Nonsense on every route: refused in words, never with an internal error."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
import pytest

from triptych.hub.server.http.app import declared

if TYPE_CHECKING:
    from tests.hub.server.conftest import RunningHub

DEEP = "[" * 3000 + "]" * 3000
BODIES: list[bytes] = [
    b"", b"null", b"[]", b"7", b'"text"', b"{", b"\xff\xfe", DEEP.encode(),
    b'{"name": 7, "type": [], "organization": {}, "files": 3, "objects": "x"}',
    b'{"operation": {}}',
    b'{"name": null, "fromRepo": [], "toRepo": 1, "visibility": 5, "gated": {}, "secrets": 3}',
    b'{"files": [null, 3, {"path": null}, {"path": "a", "size": -1, "sample": 9}]}',
    b'{"objects": [null, {"oid": 5}, {"oid": "x", "size": true}], "operation": "upload"}',
    b'{"key": [], "value": 5, "repository": {}, "seconds": "x", "flavor": [], "parts": {}}',
    b'{"tag": {}, "message": [], "startingPoint": [], "content": {}, "repoType": []}',
    b'{"command": "x", "arguments": 5, "environment": [], "timeoutSeconds": "x", "labels": 1}',
    b"key=value&paths=%FF&paths=..", b'{"parts": [{"partNumber": [], "etag": {}}]}',
    b'{"key": "header", "value": {"summary": [], "parentCommit": {}}}\n{"key": "file"}',
]  # fmt: skip
WORDS = ["x", "%00", "%2e%2e", "a%2Fb", "%F0%9F%92%A9", "-", "refs%2Fheads%2Fmain", "9" * 40,
         "n" * 3000, "%25", "README.md", "main", "~", "a b".replace(" ", "%20")]  # fmt: skip
QUERIES = [
    "", "limit=x", "limit=-1", "cursor=%00", "cursor=W10=", "p=99999999999999999999",
    "expand=1&recursive=1", "sort=;drop", "search=%25_%5C", "ticket=x", "filter=%22",
]  # fmt: skip


@pytest.mark.parametrize("bodies", [1, pytest.param(6, marks=pytest.mark.prove)])
def test_nonsense_is_refused_in_words(start_hub: Callable[..., RunningHub], bodies: int) -> None:
    hub = start_hub()
    api = hub.api()
    for kind in ("model", "dataset", "space"):
        api.create_repo("admin/n", repo_type=kind, space_sdk="static" if kind == "space" else None)
    rng = random.Random(7)
    wrong = []
    with httpx.Client(
        base_url=hub.url, headers={"Authorization": f"Bearer {hub.admin_token}"}, timeout=60
    ) as client:
        for route in declared():
            if route.path.endswith(("/logs/run", "/logs/build", "/metrics", "/logs", "/events")):
                continue  # streams
            for body in rng.sample(BODIES, bodies):
                path = _fill(route.path, rng)
                url = f"{path}?{rng.choice(QUERIES)}"
                kind = rng.choice(["application/json", "application/x-www-form-urlencoded"])
                try:
                    answer = client.request(
                        route.method, url, content=body, headers={"Content-Type": kind}
                    )
                except httpx.RemoteProtocolError as error:
                    wrong.append(f"{route.method} {url[:120]} {body[:60]!r}: {error}")
                    continue
                if answer.status_code >= 500 and answer.status_code != 501:
                    words = answer.text[:200]
                    wrong.append(f"{route.method} {url[:120]} {body[:60]!r}: {words}")
    assert not wrong, "\n".join(wrong)
    assert json.loads(httpx.get(f"{hub.url}/health", timeout=60).text) == {"status": "ok"}


HALF = "\\ud800"
STRANGE: list[bytes] = [
    f'{{"name": "{HALF}", "organization": "{HALF}", "repository": "admin/{HALF}"}}'.encode(),
    b'{"name": "y", "organization": {}, "fromRepo": {}, "repository": {}, "sdk": {}}',
    b'{"name": {}, "organization": [1], "type": {}, "paths": [1, null, {}], "files": [[]]}',
    f'{{"content": "{HALF}", "repoType": {{}}, "message": "{HALF}", "tag": "{HALF}"}}'.encode(),
    f'{{"paths": ["{HALF}"], "key": "{HALF}", "value": "{HALF}", "command": ["{HALF}"]}}'.encode(),
    f'{{"startingPoint": "{HALF}", "gitIgnore": "{HALF}", "files": [{{"path": "a"}}]}}'.encode(),
    f'{{"key":"header","value":{{"summary":"{HALF}"}}}}\n'
    f'{{"key":"file","value":{{"path":"a.txt","content":"{HALF}"}}}}'.encode(),
    b'{"key":"header","value":{"summary":"s","description":{}}}\n'
    b'{"key":"file","value":{"path":"README.md","content":{}}}',
    f'{{"key":"header","value":{{"summary":"s"}}}}\n'
    f'{{"key":"file","value":{{"path":"README.md","content":"---\\ntags: [\\"{HALF}\\"]\\n---"}}}}'
    .encode(),
    b'{"size": 1e400, "oid": NaN, "seconds": Infinity, "expand": {}, "timeoutSeconds": -1e99}',
    b'{"operation": "upload", "objects": [{"oid": "' + b"a" * 64 + b'", "size": '
    + b"9" * 4000 + b"}]}",
    b'{"files": [{"path": "a", "size": ' + b"9" * 4000 + b', "sample": {}}], "transfers": 5}',
]  # fmt: skip
DIGITS = "9" * 5000
STRANGE_QUERIES = ["", f"limit={DIGITS}", f"p={DIGITS}", f"cursor={DIGITS}", "search=%ED%A0%80"]
STRANGE_RANGES = ["", f"bytes=0-{DIGITS}", f"bytes={DIGITS}-", "bytes=-0", f"bytes=-{DIGITS}"]


@pytest.mark.parametrize("bodies", [3, pytest.param(12, marks=pytest.mark.prove)])
def test_found_f12_no_malformed_request_is_an_internal_error(
    start_hub: Callable[..., RunningHub], bodies: int
) -> None:
    hub = start_hub()
    api = hub.api()
    for kind in ("model", "dataset", "space"):
        api.create_repo("admin/n", repo_type=kind, space_sdk="static" if kind == "space" else None)
    rng = random.Random(11)
    wrong = []
    with httpx.Client(
        base_url=hub.url, headers={"Authorization": f"Bearer {hub.admin_token}"}, timeout=60
    ) as client:
        for number, route in enumerate(declared()):
            if route.path.endswith(("/logs/run", "/logs/build", "/metrics", "/logs", "/events")):
                continue  # streams
            for turn in range(bodies):
                body = STRANGE[(number + turn * 5) % len(STRANGE)]
                path = re.sub(r"\{(\w+)(?::\w+)?\}", _here, route.path)
                url = f"{path}?{rng.choice(STRANGE_QUERIES)}"
                headers = {"Content-Type": "application/json", "Range": rng.choice(STRANGE_RANGES)}
                answer = client.request(
                    route.method, url, content=body, headers={k: v for k, v in headers.items() if v}
                )
                if answer.status_code >= 500 and answer.status_code != 501:
                    wrong.append(f"{route.method} {url[:80]} {body[:90]!r} {headers['Range'][:20]}")
    assert not wrong, "\n".join(wrong)


def _here(match: re.Match[str]) -> str:
    there = {"namespace": "admin", "name": "n", "revision": "main", "path": "README.md"}
    return there.get(match[1], "x")


def _fill(path: str, rng: random.Random) -> str:
    def word(match: re.Match[str]) -> str:
        if match[1] == "namespace":
            return "admin"
        if match[1] == "name" and rng.random() < 0.8:
            return "n"
        return rng.choice(WORDS)

    return re.sub(r"\{(\w+)(?::\w+)?\}", word, path)
