"""Token shards: flat little-endian files of token ids, memory-mapped and checksummed.

Documents are concatenated and each starts with the boundary token, which occurs nowhere
else; so document starts are found in the tokens themselves and no index file can disagree.
Left out: the order in which training reads them (loader.py).
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from triptych.durable import sha256_file
from triptych.errors import DataError
from triptych.lm.data.manifest import load_manifest

_SCAN_TOKENS = 1 << 24


def shard_dtype(vocab_size: int) -> np.dtype[Any]:
    """Choose the smallest little-endian type that holds every id."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


class ShardWriter:
    """Write the tokens of one split into shard files of a bounded size."""

    def __init__(
        self, folder: Path, split: str, *, dtype: np.dtype[Any], shard_tokens: int
    ) -> None:
        self.folder = folder
        self.split = split
        self.dtype = dtype
        self.shard_tokens = shard_tokens
        self.entries: list[dict[str, Any]] = []
        self._file: Any = None

    def append(self, tokens: np.ndarray, documents: int) -> None:
        """Append whole documents; a shard ends with the batch that fills it.

        Shape: tokens [tokens].
        """
        if self._file is None:
            name = f"{self.split}-{len(self.entries):05d}.bin"
            self._file = (self.folder / name).open("wb")
            self._digest = hashlib.sha256()
            entry: dict[str, Any] = {
                "file": name,
                "split": self.split,
                "tokens": 0,
                "documents": 0,
                "bytes": 0,
            }
            self.entries.append(entry)
        entry = self.entries[-1]
        data = np.ascontiguousarray(tokens, dtype=self.dtype).data
        self._file.write(data)
        self._digest.update(data)
        entry["tokens"] += len(tokens)
        entry["documents"] += documents
        entry["bytes"] += data.nbytes
        if entry["tokens"] >= self.shard_tokens:
            self.close()

    def close(self) -> None:
        """Finish the open shard and record its checksum."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self.entries[-1]["sha256"] = self._digest.hexdigest()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class TokenShards:
    """Read the tokens of one split of a data folder as if they were one array.

    Raises: DataError when the folder is no corpus, or a shard is missing, cut or altered.
    """

    def __init__(self, folder: Path, split: str, *, verify: bool = True) -> None:
        self.folder = Path(folder)
        self.split = split
        self.manifest = load_manifest(self.folder)
        self.fingerprint: str = self.manifest["fingerprint"]
        self.vocab_size: int = self.manifest["vocab_size"]
        self.boundary_id: int = self.manifest["boundary_id"]
        self.dtype = np.dtype(self.manifest["dtype"])
        entries = [entry for entry in self.manifest["shards"] if entry["split"] == split]
        if not entries:
            raise DataError(
                f"{self.folder} has no split {split!r}", hint="the splits are train and val"
            )
        self._maps = [_open_shard(self.folder, entry, self.dtype, verify) for entry in entries]
        self._ends = np.cumsum([len(tokens) for tokens in self._maps])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, start: int, count: int) -> np.ndarray:
        """Return `count` tokens from position `start` on, fewer only at the end.

        Shape: [count] in the shard's own unsigned type.
        """
        stop = min(start + count, len(self))
        first = int(np.searchsorted(self._ends, start, side="right"))
        pieces = []
        while start < stop:
            offset = start - (int(self._ends[first - 1]) if first else 0)
            piece = self._maps[first][offset : offset + stop - start]
            pieces.append(piece)
            start += len(piece)
            first += 1
        if len(pieces) == 1:
            return np.asarray(pieces[0])
        return np.concatenate(pieces) if pieces else np.empty(0, self.dtype)

    @cached_property
    def document_starts(self) -> np.ndarray:
        """Return where each document begins, ascending.

        Shape: [documents] int64.
        """
        found = []
        for start in range(0, len(self), _SCAN_TOKENS):
            block = self.read(start, _SCAN_TOKENS)
            found.append(np.flatnonzero(block == self.boundary_id).astype(np.int64) + start)
        return np.concatenate(found)


def _open_shard(
    folder: Path, entry: dict[str, Any], dtype: np.dtype[Any], verify: bool
) -> np.ndarray:
    """Map one shard into memory, checked against its entry in the manifest.

    Shape: [tokens] of `dtype`.
    """
    file = folder / entry["file"]
    hint = "build the corpus again, or copy the file again from where it came"
    if not file.is_file():
        raise DataError(f"shard {file} is missing", hint=hint)
    size_bytes = file.stat().st_size
    if size_bytes != entry["bytes"]:
        raise DataError(
            f"shard {file} has {size_bytes} bytes; its manifest says {entry['bytes']}", hint=hint
        )
    if verify and sha256_file(file) != entry["sha256"]:
        raise DataError(f"shard {file} is corrupted: its checksum differs", hint=hint)
    return np.memmap(file, dtype=dtype, mode="r")
