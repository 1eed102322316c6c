"""Which files below a folder are read: not hidden ones, not our own output, links by choice.

Left out: what is in a file (files.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from triptych.documents.isolation import printable
from triptych.lm.data.document import Reading

# Folders that programs fill; they hold nothing that a person wrote to be read.
_PROGRAM_FOLDERS = frozenset(("node_modules", "__pycache__", "venv", "site-packages"))


def files_below(
    folder: Path, reading: Reading, *, follow_links: bool = False
) -> Iterator[tuple[Path, str]]:
    """Yield every file below a folder with its name, in the order of the names.

    Linked folders are counted, or followed once each; corpora and runs of ours are counted.
    """
    root = printable(folder.resolve().name)
    found: list[tuple[tuple[str, ...], Path]] = []
    seen = {os.path.realpath(folder)}
    for parent, folders, files in os.walk(folder, followlinks=follow_links):
        kept = []
        for name in folders:
            path = Path(parent, name)
            if name.startswith(".") or name in _PROGRAM_FOLDERS:
                continue
            label = printable(f"{root}/{path.relative_to(folder).as_posix()}")
            real = os.path.realpath(path)
            if path.is_symlink() and (not follow_links or real in seen):
                reading.drop("linked_folder", label)
            elif reason := reason_for_folder(path):
                reading.drop(reason, label)
            else:
                seen.add(real)
                kept.append(name)
        folders[:] = kept
        for name in files:
            path = Path(parent, name)
            if not name.startswith((".", "~$")) and path.is_file():
                found.append((path.relative_to(folder).parts, path))
    for parts, path in sorted(found):
        yield path, printable("/".join((root, *parts)))


def reason_for_folder(folder: Path) -> str:
    """Return `corpus` or `run` for a folder that triptych wrote, and nothing for any other."""
    try:
        if (folder / "documents").is_dir() and (folder / "manifest.json").is_file():
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            if {"format_version", "fingerprint", "shards"} <= set(manifest):
                return "corpus"
        if (folder / "run.json").is_file() and (folder / "checkpoints").is_dir():
            return "run"
    except (OSError, ValueError, TypeError):
        return ""
    return ""
