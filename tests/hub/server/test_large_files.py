"""Large files: verified, in parts, in ranges, and never by knowing a hash."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from huggingface_hub import CommitOperationAdd

from triptych.config.hub import HubConfig
from triptych.errors import HubRefused
from triptych.hub.server.storage.content.blocks import StraightWriter, new_block
from triptych.hub.server.storage.content.multipart import Part
from triptych.hub.server.storage.hub import Hub

if TYPE_CHECKING:
    from tests.hub.server.conftest import RunningHub


@pytest.fixture
def closed_hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub that serves nobody."""
    hub = Hub(HubConfig(root=str(tmp_path / "hub")))
    yield hub
    hub.close()


@pytest.fixture
def http(hub: RunningHub) -> httpx.Client:
    """A bare client with the administrator's token."""
    headers = {"Authorization": f"Bearer {hub.admin_token}"}
    return httpx.Client(base_url=hub.url, headers=headers, timeout=120)


def batch(
    client: httpx.Client, repo_id: str, content: bytes, **more: Any
) -> tuple[str, dict[str, Any]]:
    sha256 = hashlib.sha256(content).hexdigest()
    body = {
        "operation": "upload",
        "objects": [{"oid": sha256, "size": len(content)}],
        "transfers": ["basic", "multipart"],
    } | more
    answer = client.post(f"/{repo_id}.git/info/lfs/objects/batch", json=body)
    answer.raise_for_status()
    return sha256, answer.json()["objects"][0]


def commit(client: httpx.Client, repo_id: str, sha256: str, size: int) -> httpx.Response:
    lines = [
        {"key": "header", "value": {"summary": "large"}},
        {
            "key": "lfsFile",
            "value": {"path": "w.bin", "algo": "sha256", "oid": sha256, "size": size},
        },
    ]
    return client.post(
        f"/api/models/{repo_id}/commit/main", content="\n".join(map(json.dumps, lines))
    )


def test_an_upload_without_any_token_uses_its_signed_address(
    hub: RunningHub, http: httpx.Client, repo_id: str
) -> None:
    hub.api().create_repo(repo_id)
    content = os.urandom(100_000)
    sha256, answer = batch(http, repo_id, content)
    assert (
        httpx.put(answer["actions"]["upload"]["href"], content=content, timeout=60).status_code
        == 200
    )
    assert commit(http, repo_id, sha256, len(content)).status_code == 200
    assert http.get(f"/{repo_id}/resolve/main/w.bin").content == content
    assert "actions" not in batch(http, repo_id, content)[1]


def test_wrong_and_truncated_and_oversized_uploads_are_refused(
    hub: RunningHub, http: httpx.Client, repo_id: str
) -> None:
    hub.api().create_repo(repo_id)
    content = os.urandom(50_000)
    sha256, answer = batch(http, repo_id, content)
    href = answer["actions"]["upload"]["href"]
    assert httpx.put(href, content=os.urandom(50_000), timeout=60).status_code == 422
    assert httpx.put(href, content=content[:-1], timeout=60).status_code == 422
    assert httpx.put(href, content=content + b"x", timeout=60).status_code == 413
    assert (
        httpx.put(href.replace("ticket=", "ticket=A"), content=content, timeout=60).status_code
        == 401
    )
    assert commit(http, repo_id, sha256, len(content)).status_code == 422
    assert not list(hub.hub.layout.incoming.iterdir())
    assert not hub.hub.layout.object(sha256).exists()


def test_a_disk_that_takes_a_part_of_a_block_gets_the_rest(tmp_path: Path) -> None:
    """As a raw write does when a disk is nearly full; the next one would say so."""

    class Hesitant(io.FileIO):
        def write(self, block: Any) -> int:
            return super().write(block[: max(1, len(block) // 2)])

    content = os.urandom(100_003)
    with Hesitant(tmp_path / "file", "wb") as file:
        writer = StraightWriter(file)
        for start in range(0, len(content), 30_000):
            writer.write(memoryview(content)[start : start + 30_000])
    assert (tmp_path / "file").read_bytes() == content


def test_blocks_of_any_size_at_any_place_are_written_as_they_came(tmp_path: Path) -> None:
    memory = new_block()
    memory[:] = os.urandom(len(memory))
    odd = memoryview(bytearray(memory))[1:]
    for start, sizes in ((0, (1, 2**20, 77)), (2**20, (2**20, 2**20)), (4096, (2**20, 3))):
        digest, expected = hashlib.sha256(), b"\0" * start
        with (tmp_path / "file").open("wb", buffering=0) as file:
            file.seek(start)
            writer = StraightWriter(file, start, digest)
            for size in sizes:
                for source in (memory, odd):  # one that begins with a page, one that does not
                    writer.write(source[:size])
                    expected += source[:size]
        assert (tmp_path / "file").read_bytes() == expected
        assert digest.hexdigest() == hashlib.sha256(expected[start:]).hexdigest()


def test_whatever_happens_to_parts_only_the_promised_file_is_kept(closed_hub: Hub) -> None:
    """Two hands send good and bad parts in any order, at once, again, and leave in the middle."""
    uploads, layout = closed_hub.uploads, closed_hub.layout
    chance, size, piece = random.Random(7), 28, 10
    kept = 0
    for number in range(400):
        content = chance.randbytes(size)
        sha256 = hashlib.sha256(content).hexdigest()
        upload = uploads.open(f"{number}", sha256, size, piece)
        waiting = [(n, 0.03) for n in ([1, 2, 3] if chance.random() < 0.7 else [3, 1, 2])]
        if chance.random() < 0.7:  # somebody sends one of them too, and means no good
            waiting.insert(chance.randrange(4), (chance.randrange(1, 4), 0.4))
        hands: list[tuple[Part, list[bytes], float]] = []
        while waiting or hands:
            if waiting and len(hands) < chance.choice((1, 2)):
                n, evil = waiting.pop(0)
                whole = content[(n - 1) * piece : n * piece]
                sent = bytes(len(whole)) if chance.random() < evil else whole
                hands.append((Part(upload, n), [sent[:4], sent[4:]], evil))
            part, left, evil = hands[spot := chance.randrange(len(hands))]
            if left and chance.random() > evil / 2:
                part.write(memoryview(left.pop(0)))
                continue
            with suppress(HubRefused):  # the client left before the end of this part
                part.finish()
            part.close()
            del hands[spot]
        parts = [{"partNumber": n, "etag": tag} for n, tag in upload.etags.items()]
        try:
            uploads.complete(f"{number}", parts)
        except HubRefused:
            assert not layout.object(sha256).exists()
        else:
            assert layout.object(sha256).read_bytes() == content
            kept += 1
    assert 40 < kept < 400


def test_a_file_is_not_complete_while_a_part_still_arrives(closed_hub: Hub) -> None:
    uploads = closed_hub.uploads
    content = os.urandom(20)
    upload = uploads.open("one", hashlib.sha256(content).hexdigest(), 20, 10)
    for number in (1, 2):
        part = Part(upload, number)
        part.write(memoryview(content)[(number - 1) * 10 : number * 10])
        part.finish()
        part.close()
    parts = [{"partNumber": n, "etag": tag} for n, tag in upload.etags.items()]
    again = Part(upload, 2)
    with pytest.raises(HubRefused):
        uploads.complete("one", parts)
    upload.etags |= {part["partNumber"]: part["etag"] for part in parts}
    with pytest.raises(HubRefused, match="still arriving"):
        uploads.complete("one", parts)
    again.write(memoryview(content)[10:])
    parts[1]["etag"] = again.finish()
    again.close()
    assert uploads.complete("one", parts).hashed == 0
    with pytest.raises(HubRefused, match="complete"):
        Part(upload, 1)


def test_a_file_in_parts_arrives_whole(start_hub: Callable[..., RunningHub]) -> None:
    hub = start_hub(multipart_bytes=70_000)
    hub.api().create_repo("admin/parts")
    content = os.urandom(200_001)
    with httpx.Client(
        base_url=hub.url, headers={"Authorization": f"Bearer {hub.admin_token}"}, timeout=60
    ) as http:
        sha256, answer = batch(http, "admin/parts", content)
        upload = answer["actions"]["upload"]
        size = int(upload["header"]["chunk_size"])
        urls = {int(n): url for n, url in upload["header"].items() if n.isdigit()}
        parts = []
        for number in sorted(urls, reverse=True):
            piece = content[(number - 1) * size : number * size]
            put = httpx.put(urls[number], content=piece, timeout=60)
            parts.append({"partNumber": number, "etag": put.headers["etag"]})
        short = httpx.post(upload["href"], json={"oid": sha256, "parts": parts[1:]}, timeout=60)
        assert short.status_code == 422
        done = httpx.post(upload["href"], json={"oid": sha256, "parts": parts}, timeout=60)
        assert done.status_code == 200
        verify = answer["actions"]["verify"]["href"]
        assert http.post(verify, json={"oid": sha256, "size": len(content)}).status_code == 200
        assert commit(http, "admin/parts", sha256, len(content)).status_code == 200
        assert http.get("/admin/parts/resolve/main/w.bin").content == content


def test_ranges_and_tags_of_downloads(hub: RunningHub, http: httpx.Client, repo_id: str) -> None:
    api = hub.api()
    api.create_repo(repo_id)
    large, small = os.urandom(300_000), b"0123456789"
    api.create_commit(
        repo_id,
        [CommitOperationAdd("w.bin", large), CommitOperationAdd("s.txt", small)],
        commit_message="both",
    )
    for path, content in (("w.bin", large), ("s.txt", small)):
        url = f"/{repo_id}/resolve/main/{path}"
        head = http.head(url)
        assert int(head.headers["content-length"]) == len(content)
        assert len(head.headers["x-repo-commit"]) == 40
        for text, part in {
            "bytes=0-3": content[:4], "bytes=4-": content[4:], "bytes=-5": content[-5:],
            "bytes=2-99999999": content[2:],
        }.items():  # fmt: skip
            answer = http.get(url, headers={"Range": text})
            assert (answer.status_code, answer.content) == (206, part)
        past = http.get(url, headers={"Range": f"bytes={len(content)}-"})
        assert past.status_code == 416
        etag = head.headers["etag"]
        assert http.get(url, headers={"If-None-Match": etag}).status_code == 304
        other = http.get(url, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
        assert other.status_code == 200
    assert http.head(f"/{repo_id}/resolve/main/w.bin").headers["x-linked-etag"] == (
        f'"{hashlib.sha256(large).hexdigest()}"'
    )


def test_knowing_a_hash_is_no_right_to_a_file(hub: RunningHub, http: httpx.Client) -> None:
    """A stranger who knows the sha256 of a private file learns nothing and gets nothing."""
    api = hub.api()
    api.create_repo("admin/vault", private=True)
    content = os.urandom(20_000)
    sha256, answer = batch(http, "admin/vault", content)
    httpx.put(answer["actions"]["upload"]["href"], content=content, timeout=60)
    commit(http, "admin/vault", sha256, len(content))
    user, token = hub.user()
    mine = f"{user.name}/mine"
    hub.api(token).create_repo(mine)
    stranger = httpx.Client(
        base_url=hub.url, headers={"Authorization": f"Bearer {token}"}, timeout=60
    )
    assert "actions" in batch(stranger, mine, content)[1]
    assert commit(stranger, mine, sha256, len(content)).status_code == 422
    download = batch(stranger, mine, content, operation="download")[1]
    assert download["error"]["code"] == 404


def test_gc_keeps_what_any_commit_points_to(
    start_hub: Callable[..., RunningHub], tmp_path: Path
) -> None:
    from triptych.hub.server.repositories.garbage_collection import collect

    hub = start_hub()
    api = hub.api()
    first, second = os.urandom(40_000), os.urandom(40_000)
    for name in ("admin/kept", "admin/gone"):
        api.create_repo(name)
        api.upload_file(path_or_fileobj=first, path_in_repo="w.bin", repo_id=name)
    api.upload_file(path_or_fileobj=second, path_in_repo="w.bin", repo_id="admin/kept")
    api.delete_repo("admin/gone")
    assert collect(hub.hub, grace_s=0).objects == 0
    api.create_repo("admin/other")
    api.upload_file(path_or_fileobj=os.urandom(9_000), path_in_repo="w.bin", repo_id="admin/other")
    api.delete_repo("admin/other")
    assert collect(hub.hub, grace_s=3600).objects == 0
    report = collect(hub.hub, grace_s=0)
    assert (report.objects, report.xorbs) == (1, 1)
    history = api.list_repo_commits("admin/kept")
    path = api.hf_hub_download(
        "admin/kept", "w.bin", revision=history[1].commit_id, cache_dir=tmp_path
    )
    assert Path(path).read_bytes() == first
    again = os.urandom(9_000)
    api.upload_file(path_or_fileobj=again, path_in_repo="x.bin", repo_id="admin/kept")
