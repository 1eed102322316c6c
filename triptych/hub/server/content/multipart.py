"""Large files in parts: each part goes straight to its place in one file, in any order.

The whole is hashed once, when the client says it is complete. Parts live as long as the server;
after a restart the client's retry begins anew.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from triptych.durable import require_free_space
from triptych.errors import HubRefused
from triptych.hub.server.content.blocks import SteadyWriter, put_in_place
from triptych.hub.server.content.store import ObjectStore


@dataclass
class Upload:
    """Hold one file while its parts arrive."""

    sha256: str
    size: int
    part_bytes: int
    path: Path
    started_at: float = field(default_factory=time.time)
    etags: dict[int, str] = field(default_factory=dict)

    def length_of(self, number: int) -> int:
        """Return how many bytes a part has.

        Raises: HubRefused (400) when there is no such part.
        """
        start = (number - 1) * self.part_bytes
        if number < 1 or start >= self.size:
            raise HubRefused(400, f"There is no part {number}")
        return min(self.part_bytes, self.size - start)


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
        with upload.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != upload.sha256:
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
        self._hash = hashlib.sha256()
        self._file: BinaryIO = upload.path.open("r+b", buffering=0)
        start = self._file.seek((number - 1) * upload.part_bytes)
        self._writer = SteadyWriter(self._file, start)

    def write(self, block: memoryview) -> None:
        """Take the next bytes."""
        self.left -= len(block)
        if self.left < 0:
            raise HubRefused(413, "More bytes arrived than this part has")
        self._hash.update(block)
        self._writer.write(block)

    def finish(self) -> str:
        """Return the part's tag once it is whole."""
        if self.left:
            raise HubRefused(422, f"{self.left} bytes of this part are missing")
        return f'"{self._hash.hexdigest()}"'

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
