"""Keep the GGUF files that engines were made from, so that a model is converted once.

A file's name holds a digest of what it was made of; a changed checkpoint gets a new file. The
files together stay within a budget, the least recently used leaving first.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from triptych.config import environment
from triptych.lm.export.gguf import GgufType, export_gguf
from triptych.lm.export.lora import export_lora

#: Raised when the same folder would be written differently than before.
EXPORTER_VERSION = 1
BUDGET_BYTES = 20 * 2**30

_SOURCES = (
    "config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


def cached_gguf(folder: Path, dtype: GgufType, *, name: str = "") -> Path:
    """Return the GGUF file of a model folder, writing it where there is none yet.

    Raises: ExportError and CheckpointError as `export_gguf`.
    """
    place = environment.home() / "cache" / "gguf"
    path = place / f"{folder.resolve().name}-{_digest(folder)}.{dtype}.gguf"
    if path.is_file():
        path.touch()
        return path
    place.mkdir(parents=True, exist_ok=True)
    export_gguf(folder, path, dtype=dtype, name=name)
    _prune(place, keep=path)
    return path


def cached_lora(adapter: Path, base: Path) -> Path:
    """Return the GGUF file of a LoRA adapter folder, writing it where there is none yet.

    Raises: ExportError and CheckpointError as `export_lora`.
    """
    place = environment.home() / "cache" / "gguf"
    path = place / f"{adapter.resolve().name}-{_digest(adapter)}.lora.gguf"
    if not path.is_file():
        export_lora(adapter, base, path)
    path.touch()
    return path


def _digest(folder: Path) -> str:
    """Name the content by where it lies, its size and its time: hashing gigabytes would be slow."""
    parts = [str(EXPORTER_VERSION)]
    for file in sorted([*(folder / name for name in _SOURCES), *folder.glob("*.safetensors")]):
        if file.is_file():
            real = file.resolve()
            status = real.stat()
            parts += [str(real), str(status.st_size), str(status.st_mtime_ns)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _prune(place: Path, keep: Path) -> None:
    files = sorted(place.glob("*.gguf"), key=lambda file: file.stat().st_mtime)
    total = sum(file.stat().st_size for file in files)
    for file in files:
        if total <= BUDGET_BYTES:
            return
        if file != keep:
            total -= file.stat().st_size
            # An engine that has it open keeps reading it; the space returns when it closes.
            file.unlink(missing_ok=True)
