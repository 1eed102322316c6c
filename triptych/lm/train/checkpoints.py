"""Checkpoints of a run: written whole or not at all, verified when read, thinned out by rule.

A checkpoint is a Hugging Face folder (the averaged weights where the run averages) and, for
going on, `optimizer.safetensors`, `trainer_state.json` and a `manifest.json` with the size and
SHA-256 of every file. Left out: what the tensors and the state mean (`trainer`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from triptych.durable import atomic_folder, require_free_space, write_atomic
from triptych.errors import CheckpointError
from triptych.lm.model.checkpoint import WEIGHTS, verify_manifest, write_manifest
from triptych.lm.model.tensors import save_tensors

FORMAT_VERSION = 1
STATE = "trainer_state.json"
TENSORS = "optimizer.safetensors"


@dataclass(frozen=True)
class Found:
    """A verified checkpoint and the state in it."""

    folder: Path
    state: dict[str, Any]

    def weights(self) -> dict[str, Tensor]:
        """Load the model's tensors."""
        return load_tensors(self.folder / WEIGHTS)

    def tensors(self) -> dict[str, Tensor]:
        """Load the optimizer's tensors."""
        return load_tensors(self.folder / TENSORS)


def checkpoint_name(step: int) -> str:
    """Name the checkpoint folder of a step."""
    return f"step-{step:08d}"


def save(
    folder: Path,
    *,
    save_model: Callable[[Path], None],
    tensors: dict[str, Tensor],
    state: dict[str, Any],
    needed_bytes: int,
) -> None:
    """Write a checkpoint folder; it appears whole, by one rename, or not at all.

    Raises: StorageError when the disk is too full or the folder cannot be written.
    """
    require_free_space(folder.parent, needed_bytes)
    with atomic_folder(folder) as temporary:
        save_model(temporary)
        save_tensors(tensors, temporary / TENSORS)
        text = json.dumps({"format_version": FORMAT_VERSION, **state}, indent=2)
        (temporary / STATE).write_text(text + "\n", encoding="utf-8")
        write_manifest(temporary)


def newest(checkpoints: Path) -> tuple[Found | None, list[str]]:
    """Find the newest checkpoint that verifies, and say which newer ones were torn.

    Torn ones are set aside as `NAME.torn` and unfinished temporary folders are removed; the
    caller holds the run's lock.
    """
    skipped: list[str] = []
    for leftover in checkpoints.glob(".step-*.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for folder in sorted(_steps(checkpoints), reverse=True):
        try:
            if not verify_manifest(folder):
                raise CheckpointError(f"{folder} has no manifest")
            state = json.loads((folder / STATE).read_text(encoding="utf-8"))
            return Found(folder, state), skipped
        except (CheckpointError, ValueError) as error:
            aside = folder.with_name(f"{folder.name}.torn")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            reason = error.message if isinstance(error, CheckpointError) else str(error)
            skipped.append(f"skipped a torn checkpoint: {reason}; it now lies at {aside.name}")
    return None, skipped


def write_pointer(checkpoints: Path, pointer: str, name: str) -> None:
    """Let `latest` or `best` name a checkpoint."""
    write_atomic(checkpoints / pointer, name + "\n")


def read_pointer(checkpoints: Path, pointer: str) -> Path | None:
    """Follow `latest` or `best`; None where it names nothing that exists."""
    file = checkpoints / pointer
    if not file.is_file():
        return None
    folder = checkpoints / file.read_text(encoding="utf-8").strip()
    return folder if folder.is_dir() else None


def prune(checkpoints: Path, *, keep_last: int, milestones: Sequence[int]) -> None:
    """Delete old checkpoints, except the newest, the best, the latest and the milestones."""
    folders = sorted(_steps(checkpoints))
    kept = {folder.name for folder in folders[-keep_last:]} | {
        checkpoint_name(s) for s in milestones
    }
    for pointer in ("latest", "best"):
        target = read_pointer(checkpoints, pointer)
        if target:
            kept.add(target.name)
    for folder in folders:
        if folder.name not in kept:
            # Renamed first, so that a crash half-way leaves no checkpoint that looks whole.
            doomed = folder.with_name(f".{folder.name}.tmp-deleted")
            folder.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def load_tensors(file: Path) -> dict[str, Tensor]:
    """Load a safetensors file.

    Raises: CheckpointError where it is missing or torn.
    """
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{file} cannot be read: {error}", hint="use another checkpoint"
        ) from error


def _steps(checkpoints: Path) -> Iterator[Path]:
    for folder in checkpoints.glob("step-*"):
        if folder.is_dir() and folder.name.removeprefix("step-").isdigit():
            yield folder
