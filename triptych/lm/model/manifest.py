"""The manifest of a model or adapter folder: size and SHA-256 of every file. Loads no torch."""

from __future__ import annotations

import json
from pathlib import Path

from triptych.durable import sha256_file, write_atomic
from triptych.errors import CheckpointError

MANIFEST = "manifest.json"


def write_manifest(folder: Path) -> None:
    """Record size and sha256 of every file, for `verify_manifest`."""
    folder = Path(folder)
    files = {
        str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    write_atomic(
        folder / MANIFEST,
        json.dumps({"format_version": 1, "files": files}, indent=2, sort_keys=True) + "\n",
    )


def verify_manifest(folder: Path) -> bool:
    """Check every file against the manifest; False where the folder has none.

    Raises: CheckpointError (code `torn`) naming the files that are missing or differ.
    """
    manifest = Path(folder) / MANIFEST
    if not manifest.exists():
        return False
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{manifest} is torn", code="torn") from error
    damaged = [
        name
        for name, facts in files.items()
        if not (file := Path(folder) / name).is_file()
        or file.stat().st_size != facts["bytes"]
        or sha256_file(file) != facts["sha256"]
    ]
    if damaged:
        raise CheckpointError(
            f"{folder} is torn: {', '.join(damaged)} differ from the manifest",
            hint="use an earlier checkpoint, or pull it again",
            code="torn",
        )
    return True
