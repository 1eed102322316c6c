"""Build a corpus again: what is new, changed and gone; the old one stays until the new is whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.config.data import DataConfig
from triptych.durable import storage_errors
from triptych.lm.data.build import build_corpus
from triptych.lm.data.documents import text_hashes
from triptych.lm.data.ingest import OnProgress
from triptych.lm.data.manifest import load_manifest


@dataclass(frozen=True)
class Changes:
    """Name the documents by which two corpora differ, each list in order.

    `settings`: no document differs, yet the tokens do.
    """

    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    settings: bool = False

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.gone or self.settings)


def rebuild_corpus(
    sources: Sequence[str],
    out: Path,
    config: DataConfig,
    *,
    apply: bool,
    on_progress: OnProgress = lambda stage, done_bytes, total_bytes: None,
    **more: Any,
) -> tuple[dict[str, Any], Changes]:
    """Build beside an existing corpus and return the manifest that holds, and what differs.

    Only with `apply` does the new one take its place, by two renames; runs that have the old one
    open go on with it. An unchanged corpus is left as it is, to the byte.

    Raises: DataError where `out` is no corpus, and whatever building raises.
    """
    out = Path(out)
    _recover(out)
    before = load_manifest(out)
    with storage_errors(out):
        beside = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.again-"))
    try:
        after = build_corpus(sources, beside / "new", config, on_progress=on_progress, **more)
        same = before["fingerprint"] == after["fingerprint"]
        changes = Changes() if same else _differences(out, beside / "new")
        if not changes or not apply:
            return before, changes
        with storage_errors(out):
            out.rename(beside / "old")
            (beside / "new").rename(out)
        return after, changes
    finally:
        _recover(out)
        shutil.rmtree(beside, ignore_errors=True)


def _recover(out: Path) -> None:
    """Put the old corpus back where a process was killed between the two renames."""
    if not out.exists():
        for old in out.parent.glob(f".{out.name}.again-*/old"):
            old.rename(out)
            return


def _differences(old: Path, new: Path) -> Changes:
    before, after = text_hashes(old / "documents"), text_hashes(new / "documents")
    found = Changes(
        new=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(n for n in before.keys() & after.keys() if before[n] != after[n])),
        gone=tuple(sorted(before.keys() - after.keys())),
    )
    return found or Changes(settings=True)
