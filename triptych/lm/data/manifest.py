"""The manifest of a data folder: what it holds, where that came from, and how to check it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triptych.durable import write_atomic
from triptych.errors import DataError

FORMAT_VERSION = 1
FILE_NAME = "manifest.json"


def load_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a data folder.

    Raises: DataError when the folder is no corpus, or a newer format.
    """
    file = Path(folder) / FILE_NAME
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = manifest["format_version"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"{folder} is not a corpus: it has no {FILE_NAME}",
            hint="build one with: triptych data build SOURCE --out DIR",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} is not a readable manifest", hint="build the corpus again"
        ) from error
    if version != FORMAT_VERSION:
        raise DataError(
            f"{folder} has data format {version}; this version reads {FORMAT_VERSION}",
            hint="update triptych, or build the corpus again",
        )
    return manifest


def save_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest of a data folder."""
    write_atomic(folder / FILE_NAME, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def data_fingerprint(tokenizer_sha256: str, shards: Sequence[dict[str, Any]]) -> str:
    """Hash everything that decides which tokens training sees, in order."""
    digest = hashlib.sha256(f"triptych data {FORMAT_VERSION} {tokenizer_sha256}".encode())
    for shard in shards:
        digest.update(f"\n{shard['split']} {shard['tokens']} {shard['sha256']}".encode())
    return digest.hexdigest()
