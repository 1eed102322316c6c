"""Write uploaded files below a company's folder; names from a browser choose no other place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from starlette.datastructures import FormData, UploadFile

from triptych.documents.isolation import printable
from triptych.durable import require_free_space, storage_errors
from triptych.errors import InvalidQuery

_LONGEST = 120
_DEEPEST = 12


def files_of(form: FormData) -> list[UploadFile]:
    """Return the files of a form that have a name and a content."""
    sent = [one for name in ("files", "folder") for one in form.getlist(name)]
    return [one for one in sent if isinstance(one, UploadFile) and one.filename]


def safe_name(sent: str) -> str:
    """Return a file's path below the folder of uploads.

    Raises: InvalidQuery where nothing of the name is left.
    """
    parts = [part.strip() for part in printable(sent).replace("\\", "/").split("/")]
    kept = []
    for part in parts:
        clean = "".join(one for one in part if one.isprintable())
        if clean.strip(".") and not clean.startswith((".", "~$")):
            stem, dot, suffix = clean.rpartition(".")
            # The ending decides how a file is read, so a long name is cut before it.
            cut = f"{stem[: _LONGEST - len(suffix)]}{dot}{suffix[:16]}" if dot else clean[:_LONGEST]
            kept.append(cut)
    if not kept or len(kept) > _DEEPEST:
        raise InvalidQuery(f"{sent[:80]!r} is not a file name", param="files")
    return "/".join(kept)


def write(folder: Path, files: Sequence[UploadFile]) -> list[str]:
    """Write files, each whole or not at all; one of the same name is replaced.

    Returns: their names.
    """
    names = []
    require_free_space(folder, sum(one.size or 0 for one in files))
    with storage_errors(folder):
        for one in files:
            name = safe_name(one.filename or "")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = target.with_name(f".{target.name}.part")
            with part.open("wb") as out:
                shutil.copyfileobj(one.file, out)
                out.flush()
                os.fsync(out.fileno())
            part.replace(target)
            names.append(name)
    return names
