"""Large files in parts: each part goes straight to its place in one file, in any order.

The whole is hashed while its parts come, as far as they come one after the other (the usual
client sends them so), and to the end once the client says it is complete. Parts live as long as
the server; after a restart the client's retry begins anew.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from triptych.durable import require_free_space
from triptych.errors import HubRefused
from triptych.hub.server.storage.content.blocks import (
    Digest,
    StraightWriter,
    put_in_place,
    read_file,
)
from triptych.hub.server.storage.content.store import ObjectStore


@dataclass
class Upload:
    """Hold one file while its parts arrive.

    `digest` is the hash of the first `hashed` bytes. It grows by a part that no other request wrote
    at the same time, and begins anew when bytes it knows may have been written again.
    """

    sha256: str
    size: int
    part_bytes: int
    path: Path
    started_at: float = field(default_factory=time.time)
    etags: dict[int, str] = field(default_factory=dict)
    digest: Digest = field(default_factory=hashlib.sha256)
    hashed: int = 0
    writing: Counter[int] = field(default_factory=Counter)
    disputed: set[int] = field(default_factory=set)
    complete: bool = False
    guard: threading.Lock = field(default_factory=threading.Lock)

    def length_of(self, number: int) -> int:
        """Return how many bytes a part has.

        Raises: HubRefused (400) when there is no such part.
        """
        start = (number - 1) * self.part_bytes
        if number < 1 or start >= self.size:
            raise HubRefused(400, f"There is no part {number}")
        return min(self.part_bytes, self.size - start)

    def begin(self, number: int) -> Digest | None:
        """Note that a part is written; return the digest to go on with where it is the next.

        Raises: HubRefused (409) when the whole is being looked at already.
        """
        with self.guard:
            if self.complete:
                raise HubRefused(409, "This upload is complete")
            if self.writing[number]:
                self.disputed.add(number)
            self.writing[number] += 1
            self.etags.pop(number, None)
            follows = (number - 1) * self.part_bytes == self.hashed
            return self.digest.copy() if follows else None

    def end(self, number: int, digest: Digest | None) -> None:
        """Note that a part is no longer written, `digest` telling of it when all of it came."""
        start = (number - 1) * self.part_bytes
        with self.guard:
            self.writing[number] -= 1
            if start < self.hashed:
                self.digest, self.hashed = hashlib.sha256(), 0
            elif digest is not None and start == self.hashed and number not in self.disputed:
                self.digest, self.hashed = digest, start + self.length_of(number)

    def seal(self) -> None:
        """Refuse further parts.

        Raises: HubRefused (409) while a part is being written.
        """
        with self.guard:
            if any(self.writing.values()):
                raise HubRefused(409, "Parts of this upload are still arriving")
            self.complete = True


class Uploads:
    """Know the uploads under way, by an id that only their tickets name."""

    def __init__(self, store: ObjectStore, lasting_s: float) -> None:
        self._store = store
        self._lasting_s = lasting_s
        self._uploads: dict[str, Upload] = {}
        self._guard = threading.Lock()

    def open(self, name: str, sha256: str, size: int, part_bytes: int) -> Upload:
        """Return an upload, begun with its first part."""
        with self._guard:
            self._forget_old()
            if name not in self._uploads:
                require_free_space(self._store.layout.incoming, size)
                path = self._store.layout.temporary()
                self._uploads[name] = Upload(sha256, size, part_bytes, path)
            return self._uploads[name]

    def complete(self, name: str, parts: object) -> Upload:
        """Verify the whole and put it into place.

        Raises: HubRefused (422) when parts are missing or the bytes are others.
        """
        with self._guard:
            upload = self._uploads.get(name)
        if upload is None:
            raise HubRefused(404, "This upload is not known here; start it again")
        expected = -(-upload.size // upload.part_bytes)
        claimed = parts if isinstance(parts, list) else []
        etags = {p.get("partNumber"): str(p.get("etag")) for p in claimed if isinstance(p, dict)}
        have = {number: etag for number, etag in upload.etags.items() if etags.get(number) == etag}
        if len(have) != expected:
            raise HubRefused(422, f"{len(have)} of {expected} parts have arrived")
        upload.seal()
        with upload.path.open("rb") as file:
            digest = upload.digest.copy()
            for block in read_file(upload.path, upload.hashed, upload.size - upload.hashed):
                digest.update(memoryview(block))
            if digest.hexdigest() != upload.sha256:
                self._drop(name)
                raise HubRefused(422, f"The bytes do not have the sha256 {upload.sha256}")
            os.fsync(file.fileno())
        put_in_place(upload.path, self._store.layout.object(upload.sha256))
        with self._guard:
            self._uploads.pop(name, None)
        return upload

    def _drop(self, name: str) -> None:
        with self._guard:
            upload = self._uploads.pop(name, None)
        if upload:
            upload.path.unlink(missing_ok=True)

    def _forget_old(self) -> None:
        before = time.time() - self._lasting_s
        for name, upload in list(self._uploads.items()):
            if upload.started_at < before:
                upload.path.unlink(missing_ok=True)
                del self._uploads[name]


class Part:
    """Write one part to its place."""

    def __init__(self, upload: Upload, number: int) -> None:
        self.left = upload.length_of(number)
        self._upload, self._number, self._whole = upload, number, False
        start = (number - 1) * upload.part_bytes
        self._digest = upload.begin(number)
        try:
            self._file = upload.path.open("r+b", buffering=0)
            self._file.seek(start)
        except OSError:
            upload.end(number, None)
            raise
        self._writer = StraightWriter(self._file, start, self._digest)

    def write(self, block: memoryview) -> None:
        """Take the next bytes."""
        self.left -= len(block)
        if self.left < 0:
            raise HubRefused(413, "More bytes arrived than this part has")
        self._writer.write(block)

    def finish(self) -> str:
        """Return the tag (ETag) of a part that is complete.

        Raises: HubRefused (422) when it is not.
        """
        if self.left:
            raise HubRefused(422, f"{self.left} bytes of this part are missing")
        self._whole = True
        tag = self._upload.etags[self._number] = f'"{secrets.token_hex(16)}"'
        return tag

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        self._upload.end(self._number, self._digest if self._whole else None)
