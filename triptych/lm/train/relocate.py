"""A run whose corpus was moved: accepted at its new place when its fingerprint is the same."""

from __future__ import annotations

from pathlib import Path

from triptych.errors import RunError
from triptych.lm.data.manifest import load_manifest
from triptych.lm.train.folder import RunFolder


def move_corpus(run_dir: Path, data: Path) -> None:
    """Write into a run's config that its corpus is in another folder now.

    Raises: RunError where that is another corpus; DataError where it is none; StorageError where
        the run is live.
    """
    folder = RunFolder(run_dir)
    saved = folder.read_config()
    found = load_manifest(data)["fingerprint"]
    if found != saved["data_fingerprint"]:
        raise RunError(
            f"{data} is another corpus than the run {folder.path.name} began with: its fingerprint "
            f"is {found:.12}, not {saved['data_fingerprint']:.12}",
            hint="name the folder that the corpus was moved to, or start a new run",
        )
    saved["config"]["train"]["data"] = str(data.resolve())
    lock = folder.lock()
    lock.acquire()
    try:
        folder.write_config({name: saved[name] for name in saved if name != "format_version"})
    finally:
        lock.release()
