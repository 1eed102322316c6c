"""Hostile input against a live hub, while another client asks for its health."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from huggingface_hub import HfApi

from tests.hub.server.test_xet import Uploader
from tests.hub.server.watching import Crafted, Watch

if TYPE_CHECKING:
    from tests.hub.server.conftest import HubProcess, RunningHub

STARS = "*a" * 24 + "*b"


class Stranger:
    """A user who writes to one repository of a hub in a process of its own."""

    def __init__(self, process: HubProcess, tmp: Path) -> None:
        self.url = process.url
        self.token = process.headers["Authorization"].split()[1]
        self.http = httpx.Client(base_url=self.url, headers=process.headers, timeout=50)
        self.api = HfApi(endpoint=self.url, token=self.token)
        self.repo = f"admin/r{secrets.token_hex(4)}"
        self.api.create_repo(self.repo)
        self.crafted = Crafted(tmp / "crafted")

    @property
    def remote(self) -> str:
        return self.url.replace("http://", f"http://admin:{self.token}@") + f"/{self.repo}"

    def upload(self, path: str, content: bytes) -> None:
        self.api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=self.repo)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    from tests.hub.server.conftest import HubProcess

    process = HubProcess(tmp_path_factory.mktemp("live"))
    yield process
    process.kill()


@pytest.fixture
def stranger(live: HubProcess, tmp_path: Path) -> Iterator[Stranger]:
    one = Stranger(live, tmp_path)
    yield one
    one.http.close()


@pytest.fixture
def watch(live: HubProcess) -> Iterator[Watch]:
    """Another client; no request of it may hang while the test is hostile."""
    with Watch(live.url) as watching:
        yield watching
    assert not watching.silent, f"/health did not answer: {watching.silent}"


def test_found_f3_a_pattern_of_many_stars_is_matched_without_freezing_the_hub(
    stranger: Stranger, watch: Watch
) -> None:
    asked = {"gitIgnore": STARS, "files": [{"path": "a" * 200, "size": 1, "sample": ""}]}
    answer = stranger.http.post(f"/api/models/{stranger.repo}/preupload/main", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["files"][0]["shouldIgnore"] is False
    stranger.upload(".gitattributes", f"{STARS} filter=lfs\n".encode())
    asked["gitIgnore"] = ""
    answer = stranger.http.post(f"/api/models/{stranger.repo}/preupload/main", json=asked)
    assert answer.json()["files"][0]["uploadMode"] == "regular"
    asked["gitIgnore"] = "\n".join(f"*{number}*" for number in range(60_000))
    answer = stranger.http.post(f"/api/models/{stranger.repo}/preupload/main", json=asked)
    assert answer.status_code == 413
    assert "patterns" in answer.json()["error"]


def test_found_f4_numbers_in_a_tensor_header_are_bounded(stranger: Stranger, watch: Watch) -> None:
    shapes: list[object] = [[int("9" * 4000)] * 400, [2**63], [1] * 17, [-1], [True]]
    for number, shape in enumerate(shapes):
        one = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}
        header = json.dumps({"x": one}).encode()
        name = f"{number}.safetensors"
        stranger.upload(name, len(header).to_bytes(8, "little") + header + bytes(4))
        page = httpx.get(f"{stranger.url}/{stranger.repo}/blob/main/{name}", timeout=50)
        assert page.status_code == 200, page.text
        assert "parameters" not in page.text
    raw = b'{"x": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 4]}}'
    stranger.upload("inf.safetensors", len(raw).to_bytes(8, "little") + raw + bytes(4))
    page = httpx.get(f"{stranger.url}/{stranger.repo}/blob/main/inf.safetensors", timeout=50)
    assert page.status_code == 200, page.text


def test_found_f5_a_commit_with_a_huge_message_is_refused(stranger: Stranger, watch: Watch) -> None:
    crafted = stranger.crafted
    tree = crafted.tree([("100644", crafted.blob(b"x"), "f.txt")])
    taken, words = crafted.push(
        stranger.remote, crafted.commit(tree, b"z" * 8_000_000), "refs/heads/z"
    )
    assert not taken
    assert "commit" in words and "bytes" in words, words
    # What is listed of a message that is allowed is short.
    commit = crafted.commit(tree, b"t" * 3000 + b"\n\n" + b"m" * 500_000)
    assert crafted.push(stranger.remote, commit, "refs/heads/y") == (True, "")
    listed = stranger.http.get(f"/api/models/{stranger.repo}/commits/y").json()
    assert len(listed[0]["title"]) <= 1000
    assert len(listed[0]["message"]) <= 20_000


def test_found_f5_a_huge_message_over_http_is_refused(stranger: Stranger, watch: Watch) -> None:
    header = {"key": "header", "value": {"summary": "s" * 3_000_000}}
    file = {"key": "file", "value": {"path": "a.txt", "content": "x"}}
    answer = stranger.http.post(
        f"/api/models/{stranger.repo}/commit/main",
        content=json.dumps(header) + "\n" + json.dumps(file),
    )
    assert answer.status_code == 413


def test_found_f6_a_few_trees_that_stand_for_many_paths_are_refused(
    stranger: Stranger, watch: Watch
) -> None:
    crafted = stranger.crafted
    oid = crafted.tree([("100644", crafted.blob(b"x"), f"f{n}") for n in range(8)])
    for _ in range(5):
        oid = crafted.tree([("040000", oid, f"d{n}") for n in range(8)])
    taken, words = crafted.push(stranger.remote, crafted.commit(oid))
    assert not taken
    assert "100000 files" in words, words


def test_found_f7_xet_files_have_the_same_size_limit_as_others(
    start_hub: Callable[..., RunningHub],
) -> None:
    hub = start_hub(max_file_bytes=100_000)
    hub.api().create_repo("admin/xet")
    chunks = [bytes([n]) * 9000 for n in range(12)]
    uploader = Uploader(hub, "admin/xet")
    assert uploader.block(chunks).status_code == 200
    with Watch(hub.url) as watching:
        answer = uploader.shard(chunks)
    assert answer.status_code == 413, answer.text
    assert not watching.silent
    sha256 = hashlib.sha256(b"".join(chunks)).hexdigest()
    assert hub.hub.objects.holders(sha256) is None
    assert uploader.block(chunks[:9]).status_code == 200
    assert uploader.shard(chunks[:9]).status_code == 200


def test_found_f8_the_metadata_of_a_card_is_bounded(stranger: Stranger, watch: Watch) -> None:
    for front in ("- a\n" * 200_000, "[" * 5000 + "\n", "? a\n" * 12_000):
        answer = httpx.post(
            f"{stranger.url}/api/validate-yaml",
            json={"content": f"---\n{front}---\n# Card\n", "repoType": "model"},
            timeout=50,
        )
        assert answer.status_code == 400, answer.text[:200]
    big = "---\ntags:\n" + "- a\n" * 200_000 + "---\n# Card\n"
    content = {"key": "file", "value": {"path": "README.md", "content": big}}
    answer = stranger.http.post(
        f"/api/models/{stranger.repo}/commit/main",
        content=json.dumps({"key": "header", "value": {"summary": "c"}})
        + "\n"
        + json.dumps(content),
    )
    assert answer.status_code == 400
    assert "65536" in answer.json()["error"]


def test_found_f13_a_page_of_countless_elements_is_shown_as_text(
    stranger: Stranger, watch: Watch
) -> None:
    row = "|" + " x |" * 60 + "\n"
    for text in ("<div>" * 30_000, row + "|" + "-|" * 60 + "\n" + row * 2000, ">" * 60_000):
        stranger.upload("README.md", f"---\nlicense: mit\n---\n{text}".encode())
        page = httpx.get(f"{stranger.url}/{stranger.repo}", timeout=50)
        assert page.status_code == 200
        assert "too large to be laid out" in page.text
