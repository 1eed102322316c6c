"""Where the hub keeps things on disk, and the version of that layout.

::

    ROOT/
      format.json      {"format_version": 1}
      hub.db           accounts, tokens (hashed), repositories, settings, large files (SQLite, WAL)
      hub.lock         held by the one live server
      admin_token      first administrator's token, readable by its owner only
      secret.key       key of everything kept encrypted, readable by its owner only
      repositories/    ab/abcdef….git, bare git repositories under ids that never change
      objects/         ab/cd/<sha256>, large files as they are
      xorbs/           ab/<hash>, blocks of chunks that came over the Xet protocol
      incoming/        uploads under way
      trash/           deleted repositories on their way out
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from triptych.durable import write_atomic
from triptych.errors import StorageError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Layout:
    """Name the files and folders under the hub's root."""

    root: Path

    @property
    def database(self) -> Path:
        """Return the SQLite file."""
        return self.root / "hub.db"

    @property
    def lock(self) -> Path:
        """Return the file the live server holds locked."""
        return self.root / "hub.lock"

    @property
    def admin_token(self) -> Path:
        """Return the file with the first administrator's token."""
        return self.root / "admin_token"

    @property
    def key(self) -> Path:
        """Return the file with the key of the vault."""
        return self.root / "secret.key"

    @property
    def objects(self) -> Path:
        """Return the folder of large files."""
        return self.root / "objects"

    @property
    def xorbs(self) -> Path:
        """Return the folder of Xet blocks."""
        return self.root / "xorbs"

    @property
    def incoming(self) -> Path:
        """Return the folder of uploads under way."""
        return self.root / "incoming"

    @property
    def trash(self) -> Path:
        """Return the folder of deleted repositories on their way out."""
        return self.root / "trash"

    def repository(self, uid: str) -> Path:
        """Return the bare git repository with this id."""
        return self.root / "repositories" / uid[:2] / f"{uid}.git"

    def object(self, sha256: str) -> Path:
        """Return the place of a large file."""
        return self.objects / sha256[:2] / sha256[2:4] / sha256

    def xorb(self, xorb_hash: str) -> Path:
        """Return the place of a Xet block."""
        return self.xorbs / xorb_hash[:2] / xorb_hash

    def prepare(self) -> None:
        """Create the folders, check the format version, sweep what a killed server left behind.

        Raises: StorageError when another version of the software wrote this folder.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        marker = self.root / "format.json"
        if marker.exists():
            found = json.loads(marker.read_text(encoding="utf-8"))["format_version"]
            if found != FORMAT_VERSION:
                raise StorageError(
                    f"{self.root} has hub format {found}; this version reads {FORMAT_VERSION}",
                    hint="use the version of Triptych that wrote it, or another --root",
                )
        else:
            write_atomic(marker, json.dumps({"format_version": FORMAT_VERSION}) + "\n")
        for folder in (self.objects, self.xorbs, self.incoming, self.trash):
            folder.mkdir(exist_ok=True)
        (self.root / "repositories").mkdir(exist_ok=True)

    def sweep(self) -> None:
        """Remove half uploads and deleted repositories; only while no server is live."""
        for folder in (self.incoming, self.trash):
            for entry in folder.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def temporary(self) -> Path:
        """Create an empty file for an upload."""
        handle, name = tempfile.mkstemp(dir=self.incoming)
        os.close(handle)
        return Path(name)
