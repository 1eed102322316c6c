"""What a commit would change: wanted files against the files a repository has, by content hash.

Publishing, deploying and syncing all ask this one question, so that doing any of them twice
changes nothing. Left out: which files are wanted, and which may be deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from triptych.durable import sha256_file
from triptych.hub.repository import Content, RemoteFile


@dataclass(frozen=True)
class Changes:
    """List the paths a commit would add, change and delete, and those it would leave."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    deleted: tuple[str, ...]
    unchanged: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.deleted)

    def operations(self, wanted: Mapping[str, Content]) -> dict[str, Content]:
        """Return what `Hub.commit` needs to carry them out."""
        written = {path: wanted[path] for path in (*self.added, *self.changed)}
        return {**written, **dict.fromkeys(self.deleted)}


def compare(
    wanted: Mapping[str, Content],
    present: Mapping[str, RemoteFile],
    removable: Collection[str] = (),
) -> Changes:
    """Compare wanted files with present ones; only `removable` paths are ever deleted."""
    added, changed, unchanged = [], [], []
    for path, content in sorted(wanted.items()):
        if path not in present:
            added.append(path)
        elif matches(content, present[path]):
            unchanged.append(path)
        else:
            changed.append(path)
    deleted = sorted(path for path in removable if path in present and path not in wanted)
    return Changes(tuple(added), tuple(changed), tuple(deleted), tuple(unchanged))


def matches(content: Content, remote: RemoteFile) -> bool:
    """Return whether local content is byte for byte what the repository has."""
    if content is None or size_bytes(content) != remote.size_bytes:
        return False
    if remote.sha256:
        return sha256(content) == remote.sha256
    return git_oid(content) == remote.git_oid


def size_bytes(content: bytes | Path) -> int:
    """Return the length of local content."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def sha256(content: bytes | Path) -> str:
    """Hash local content as large-file storage does."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    return sha256_file(content)


def git_oid(content: bytes | Path) -> str:
    """Hash local content as git names a blob."""
    digest = hashlib.sha1(b"blob %d\0" % size_bytes(content), usedforsecurity=False)
    if isinstance(content, bytes):
        digest.update(content)
        return digest.hexdigest()
    with content.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
