"""Checkpoints of a run: written whole or not at all, verified when read, pruned by rule.

A checkpoint is a Hugging Face folder (the averaged weights where the run averages) or the folder
of an adapter and, for resuming, `optimizer.safetensors`, `trainer_state.json` and a
`manifest.json` with the size and SHA-256 of every file. Left out: what the tensors and the state
mean (`trainer`).
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
from triptych.lm.model.manifest import verify_manifest, write_manifest
from triptych.lm.model.tensors import save_tensors

FORMAT_VERSION = 1
STATE = "trainer_state.json"
TENSORS = "optimizer.safetensors"


@dataclass(frozen=True)
class VerifiedCheckpoint:
    """A checkpoint whose manifest was verified, and the trainer's state in it."""

    folder: Path
    state: dict[str, Any]

    def tensors(self) -> dict[str, Tensor]:
        """Load the optimizer's tensors.

        Shape: as `TrainStep.state_tensors` returned them.
        """
        return load_tensors(self.folder / TENSORS)


def checkpoint_name(step: int) -> str:
    """Return the name of a step's checkpoint folder."""
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

    Shape: `tensors` are whole, not sharded.
    Raises: StorageError when the disk is too full or the folder cannot be written.
    """
    require_free_space(folder.parent, needed_bytes)
    with atomic_folder(folder) as temporary:
        save_model(temporary)
        save_tensors(tensors, temporary / TENSORS)
        text = json.dumps({"format_version": FORMAT_VERSION, **state}, indent=2)
        (temporary / STATE).write_text(text + "\n", encoding="utf-8")
        write_manifest(temporary)


def newest(checkpoints: Path) -> tuple[VerifiedCheckpoint | None, list[str]]:
    """Return the newest checkpoint that verifies, and a message for each newer one that does not.

    Damaged ones are renamed to `NAME.torn` and unfinished temporary folders are removed; the
    caller holds the run's lock. A checkpoint is verified although it was renamed into place
    whole: after a power failure the rename may have reached the disk and some contents not.
    """
    skipped: list[str] = []
    for leftover in checkpoints.glob(".step-*.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for folder in sorted(_steps(checkpoints), reverse=True):
        try:
            if not verify_manifest(folder):
                raise CheckpointError(f"{folder} has no manifest")
            state = json.loads((folder / STATE).read_text(encoding="utf-8"))
            return VerifiedCheckpoint(folder, state), skipped
        except (CheckpointError, ValueError) as error:
            aside = folder.with_name(f"{folder.name}.torn")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            reason = error.message if isinstance(error, CheckpointError) else str(error)
            skipped.append(f"skipped a damaged checkpoint: {reason}; renamed to {aside.name}")
    return None, skipped


def write_pointer(checkpoints: Path, pointer: str, name: str) -> None:
    """Write which checkpoint `latest` or `best` is."""
    write_atomic(checkpoints / pointer, name + "\n")


def read_pointer(checkpoints: Path, pointer: str) -> Path | None:
    """Return the folder of `latest` or `best`; None where it does not exist."""
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
            # Renamed first, so that a crash half-way leaves no folder that looks like a checkpoint.
            doomed = folder.with_name(f".{folder.name}.tmp-deleted")
            folder.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def load_tensors(file: Path) -> dict[str, Tensor]:
    """Load a safetensors file.

    Shape: as they were saved.
    Raises: CheckpointError where it is missing or damaged.
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
