"""Xet: the protocol's own hashes are recomputed, and no claim is taken on trust."""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from typing import TYPE_CHECKING, Any

import httpx
import lz4.frame
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.errors import HubRefused
from triptych.hub.server.storage.content import xet_hashes as hashes
from triptych.hub.server.storage.content.xet_recipes import fetch_parts, select
from triptych.hub.server.storage.content.xet_shard import Term
from triptych.hub.server.storage.content.xet_xorb import Chunk, ChunkReader, unpack

if TYPE_CHECKING:
    from tests.hub.server.conftest import RunningHub

# Computed by the reference implementation: leaves, root, file hash.
REFERENCE = [
    ([], "0" * 64, "0" * 64),
    (
        [("cfc5d07f6f03c29bbf424132963fe08d19a37d5757aaf520bf08119f05cd56d6", 100)],
        "cfc5d07f6f03c29bbf424132963fe08d19a37d5757aaf520bf08119f05cd56d6",
        "8e16257caa3fe079d484d872a8975264b2ff683b0d6db9028cc7c0f968a45661",
    ),
    (
        [
            ("cfc5d07f6f03c29bbf424132963fe08d19a37d5757aaf520bf08119f05cd56d6", 100),
            ("c3e67584b5c4fc2a89837ec39e40f2c8a6bb0b2987ac94cd4b31e5fbdd210a72", 200),
            ("cfc5d07f6f03c29bbf424132963fe08d19a37d5757aaf520bf08119f05cd56d6", 100),
            ("c3e67584b5c4fc2a89837ec39e40f2c8a6bb0b2987ac94cd4b31e5fbdd210a72", 200),
            ("0d2beb91b9196929a5ddec9f6e306924ddf4a24268e3e59fd8464738d525af37", 300),
            ("adf8773496a9b7319b2e50dc98093f344053b17d8ad37100b9c07d9805988784", 400),
        ],
        "52c826f99507aa05d0b45e9837fa1709e0485425cfbcb1e80db3905cf98b3ee9",
        "91d21684db364c8883ab8209fa5eb2e781cf07f37e1fa43e731c30839afe422f",
    ),
]


@pytest.mark.parametrize(("texts", "root", "file"), REFERENCE)
def test_trees_hash_as_the_reference_does(
    texts: list[tuple[str, int]], root: str, file: str
) -> None:
    leaves = [(hashes.from_text(text), size) for text, size in texts]
    assert hashes.to_text(hashes.xorb_hash(leaves)) == root
    assert hashes.to_text(hashes.file_hash(leaves)) == file


def grouped(data: bytes) -> bytes:
    lanes = np.frombuffer(data, dtype=np.uint8)
    return b"".join(lanes[lane::4].tobytes() for lane in range(4))


def packed(data: bytes, scheme: int) -> bytes:
    body = {0: lambda: data, 1: lambda: lz4.frame.compress(data),
            2: lambda: lz4.frame.compress(grouped(data))}[scheme]()  # fmt: skip
    head = b"\0" + len(body).to_bytes(3, "little") + bytes([scheme])
    return head + len(data).to_bytes(3, "little") + body


@given(st.binary(min_size=1, max_size=3000), st.sampled_from([0, 1, 2]))
@settings(max_examples=100)
def test_chunks_unpack_to_what_was_packed(data: bytes, scheme: int) -> None:
    raw = packed(data, scheme)
    assert unpack(memoryview(raw)[8:], scheme, len(data)) == data


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8),
       st.integers(1, 97))  # fmt: skip
def test_blocks_are_read_whatever_the_pieces_they_arrive_in(
    chunks: list[bytes], piece: int
) -> None:
    raw = b"".join(packed(chunk, number % 3) for number, chunk in enumerate(chunks))
    reader = ChunkReader()
    with_footer = raw + b"XETBLOB" + bytes(40)
    kept = b"".join(
        bytes(reader.feed(with_footer[i : i + piece])) for i in range(0, len(with_footer), piece)
    )
    assert kept == raw
    assert [chunk.hash for chunk in reader.chunks] == [hashes.chunk_hash(c) for c in chunks]


def test_a_chunk_that_lies_about_its_size_is_refused() -> None:
    bomb = lz4.frame.compress(bytes(100_000))
    for size in (10, 99_999):
        with pytest.raises(HubRefused):
            unpack(memoryview(bomb), 1, size)
    with pytest.raises(HubRefused):
        unpack(memoryview(b"not lz4 at all"), 1, 10)


@given(st.data())
@settings(max_examples=200)
def test_a_range_of_a_file_needs_just_its_chunks(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 50), min_size=4, max_size=12))
    table, position = [], 0
    for size in sizes:
        table.append(Chunk(bytes(32), position, position + size + 8, size))
        position += size + 8
    spans = data.draw(
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=4)
    )
    terms = [
        Term(b"x" * 32, s, min(s + n, len(sizes)), sum(sizes[s : min(s + n, len(sizes))]))
        for s, n in spans
    ]
    numbers = [n for term in terms for n in range(term.start, term.end)]
    content = b"".join(bytes([n]) * sizes[n] for n in numbers)
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(start + 1, len(content)))
    chosen, offset = select(terms, {b"x" * 32: table}, start, end)
    got = b"".join(bytes([n]) * sizes[n] for term in chosen for n in range(term.start, term.end))
    assert got[offset : offset + end - start] == content[start:end]
    assert offset < sizes[chosen[0].start]
    parts = fetch_parts(chosen, {b"x" * 32: table})[b"x" * 32]
    assert all(a.end < b.start for a, b in itertools.pairwise(parts))
    for term in chosen:
        assert any(part.start <= term.start and term.end <= part.end for part in parts)


class Uploader:
    """Speak the upload protocol by hand, so that it can be spoken wrongly."""

    def __init__(self, hub: RunningHub, repo_id: str) -> None:
        self.http = httpx.Client(timeout=120)
        answer = httpx.get(
            f"{hub.url}/api/models/{repo_id}/xet-write-token/main",
            headers={"Authorization": f"Bearer {hub.admin_token}"},
            timeout=60,
        )
        self.url = answer.json()["casUrl"]
        self.http.headers["Authorization"] = f"Bearer {answer.json()['accessToken']}"

    def block(self, chunks: list[bytes], name: str | None = None) -> httpx.Response:
        leaves = [(hashes.chunk_hash(chunk), len(chunk)) for chunk in chunks]
        name = name or hashes.to_text(hashes.xorb_hash(leaves))
        raw = b"".join(packed(chunk, 1) for chunk in chunks)
        return self.http.post(f"{self.url}/v1/xorbs/default/{name}", content=raw)

    def shard(self, chunks: list[bytes], **wrong: Any) -> httpx.Response:
        leaves = [(hashes.chunk_hash(chunk), len(chunk)) for chunk in chunks]
        size = sum(map(len, chunks))
        sha256 = wrong.get("sha256") or hashlib.sha256(b"".join(chunks)).digest()
        stored = b"".join(sha256[i : i + 8][::-1] for i in range(0, 32, 8))
        record = struct.Struct("<32s4I")
        end = wrong.get("end", len(chunks))
        xorb = wrong.get("xorb") or hashes.xorb_hash(leaves)
        proof = wrong.get("proof") or hashes.range_hash(h for h, _ in leaves)
        flags = wrong.get("flags", 0xC0000000)
        body = bytes(32) + struct.pack("<QQ", wrong.get("version", 2), 0)
        body += record.pack(wrong.get("file") or hashes.file_hash(leaves), flags, 1, 0, 0)
        body += record.pack(xorb, 0, wrong.get("size", size), 0, end)
        body += record.pack(proof, 0, 0, 0, 0) + record.pack(stored, 0, 0, 0, 0)
        body += (b"\xff" * 32 + bytes(16)) * 2
        return self.http.post(f"{self.url}/v1/shards", content=body[: wrong.get("cut", len(body))])


CHUNKS = [bytes([n]) * 9000 for n in range(5)]
LIES: dict[str, dict[str, Any]] = {
    "another sha256": {"sha256": bytes(range(32))},
    "another file hash": {"file": bytes(range(32))},
    "no proof": {"proof": bytes(32)},
    "chunks that are not there": {"end": 9},
    "no chunks": {"end": 0},
    "another size": {"size": 1},
    "a block that is not there": {"xorb": bytes(range(32))},
    "no verification": {"flags": 0x40000000},
    "another version": {"version": 1},
    "half a shard": {"cut": 150},
}


@pytest.fixture
def uploader(hub: RunningHub, repo_id: str) -> Uploader:
    hub.api().create_repo(repo_id)
    return Uploader(hub, repo_id)


@pytest.mark.parametrize("lie", LIES)
def test_a_shard_with_a_lie_registers_nothing(
    hub: RunningHub, uploader: Uploader, lie: str
) -> None:
    mine = [lie.encode() * 400, *CHUNKS]
    assert uploader.block(mine).status_code == 200
    assert uploader.shard(mine, **LIES[lie]).status_code == 400
    sha256 = hashlib.sha256(b"".join(mine)).hexdigest()
    assert hub.hub.objects.holders(sha256) is None


def test_a_block_under_another_name_is_refused(hub: RunningHub, uploader: Uploader) -> None:
    assert uploader.block(CHUNKS, name="ab" * 32).status_code == 400
    assert not hub.hub.layout.xorb("ab" * 32).exists()
    assert uploader.http.post(
        f"{uploader.url}/v1/xorbs/default/{'ab' * 32}", content=b"\0\1\2"
    ).status_code == 400  # fmt: skip
    assert not list(hub.hub.layout.incoming.iterdir())


def test_what_was_uploaded_is_served_plain_and_by_recipe(
    hub: RunningHub, uploader: Uploader, repo_id: str
) -> None:
    data = b"".join(CHUNKS)
    assert uploader.block(CHUNKS).json()["was_inserted"] in (True, False)
    assert uploader.shard(CHUNKS).status_code == 200
    sha256 = hashlib.sha256(data).hexdigest()
    value = {"path": "w.bin", "oid": sha256, "size": len(data)}
    headers = {"Authorization": f"Bearer {hub.admin_token}"}
    done = httpx.post(
        f"{hub.url}/api/models/{repo_id}/commit/main",
        content=json.dumps({"key": "lfsFile", "value": value}), headers=headers, timeout=60
    )  # fmt: skip
    assert done.status_code == 200
    plain = httpx.get(
        f"{hub.url}/{repo_id}/resolve/main/w.bin", headers={"Range": "bytes=8990-9010"}, timeout=60
    )
    assert plain.content == data[8990:9011]
    file = hashes.to_text(hashes.file_hash([(hashes.chunk_hash(c), len(c)) for c in CHUNKS]))
    url = f"{uploader.url}/v1/reconstructions/{file}"
    recipe = uploader.http.get(url, headers={"Range": "bytes=10000-20000"}).json()
    assert recipe["offset_into_first_range"] == 1000
    part = next(iter(recipe["fetch_info"].values()))[0]
    span = part["url_range"]
    block = httpx.get(
        part["url"], headers={"Range": f"bytes={span['start']}-{span['end']}"}, timeout=60
    )
    assert (block.status_code, len(block.content)) == (206, span["end"] - span["start"] + 1)
    wide = httpx.get(part["url"], headers={"Range": f"bytes=0-{span['end']}"}, timeout=60)
    assert wide.status_code == 403
    assert uploader.http.get(url, headers={"Range": "bytes=999999-9999999"}).status_code == 416
    assert uploader.http.get(f"{uploader.url}/v1/reconstructions/{'0' * 64}").status_code == 404


def test_a_recipe_is_given_to_readers_of_its_repository_only(
    hub: RunningHub, uploader: Uploader
) -> None:
    secret = [b"a private chunk" * 900, *CHUNKS]
    uploader.block(secret)
    assert uploader.shard(secret).status_code == 200
    user, token = hub.user()
    hub.api(token).create_repo(f"{user.name}/mine")
    answer = httpx.get(
        f"{hub.url}/api/models/{user.name}/mine/xet-read-token/main",
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    ).json()
    file = hashes.to_text(hashes.file_hash([(hashes.chunk_hash(c), len(c)) for c in secret]))
    url = f"{answer['casUrl']}/v1/reconstructions/{file}"
    headers = {"Authorization": f"Bearer {answer['accessToken']}"}
    assert httpx.get(url, headers=headers, timeout=60).status_code == 404
    writes = httpx.post(f"{answer['casUrl']}/v1/shards", content=b"", headers=headers, timeout=60)
    assert writes.status_code == 401


def test_two_versions_of_a_model_share_their_chunks(hub: RunningHub, repo_id: str) -> None:
    """Deduplication is the point: the second version stores only what is new."""
    api = hub.api()
    api.create_repo(repo_id)
    base = np.random.default_rng(1).bytes(3_000_000)
    api.upload_file(path_or_fileobj=base, path_in_repo="w.safetensors", repo_id=repo_id)
    stored = _stored(hub)
    api.upload_file(
        path_or_fileobj=base + b"a little more", path_in_repo="w.safetensors", repo_id=repo_id
    )
    assert _stored(hub) - stored < 300_000


def _stored(hub: RunningHub) -> int:
    row = hub.hub.database.one("SELECT sum(size) AS bytes FROM xorbs")
    assert row is not None
    return int(row["bytes"] or 0)
