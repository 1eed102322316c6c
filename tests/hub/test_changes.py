"""Changes are found by content, down to one byte, with git's and large-file storage's hashes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pygit2
from hypothesis import given
from hypothesis import strategies as st

from triptych.hub.changes import compare, git_oid, matches, sha256
from triptych.hub.repository import RemoteFile


def remote(content: bytes, *, large: bool = False) -> RemoteFile:
    digest = hashlib.sha256(content).hexdigest() if large else None
    return RemoteFile(len(content), git_oid(content), digest)


def test_a_blob_is_hashed_as_git_hashes_it(tmp_path: Path) -> None:
    for name, content in {"empty": b"", "text": b"hello\n", "large": b"x" * (3 << 20)}.items():
        file = tmp_path / name
        file.write_bytes(content)
        assert git_oid(file) == git_oid(content) == str(pygit2.hash(content))
        assert sha256(file) == sha256(content) == hashlib.sha256(content).hexdigest()


@given(st.binary(min_size=1, max_size=64), st.integers(0), st.booleans())
def test_one_changed_byte_is_a_change(content: bytes, position: int, large: bool) -> None:
    at = position % len(content)
    changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    assert matches(content, remote(content, large=large))
    assert not matches(changed, remote(content, large=large))
    assert compare({"f": changed}, {"f": remote(content, large=large)}).changed == ("f",)


def test_only_removable_paths_are_deleted() -> None:
    present = {name: remote(name.encode()) for name in ("kept", "stale", "own")}
    changes = compare({"kept": b"kept", "new": b"new"}, present, removable=["kept", "stale"])

    assert changes.added == ("new",)
    assert changes.changed == ()
    assert changes.deleted == ("stale",)
    assert changes.unchanged == ("kept",)
    assert changes.operations({"kept": b"kept", "new": b"new"}) == {"new": b"new", "stale": None}
