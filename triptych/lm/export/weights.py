"""Read the weights of a Hugging Face folder as numpy arrays, one tensor at a time, without torch.

Files are mapped into memory, so only the tensor in hand is ever copied. Safetensors only.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from triptych.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
MAX_HEADER_BYTES = 100 * 1024 * 1024


class TensorInfo(NamedTuple):
    """Where one tensor lies: its file, its stored type, its shape, its first byte."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int


class Weights:
    """The tensors of a folder by their Hugging Face names, whole or sharded."""

    def __init__(self, folder: Path, name: str = "model") -> None:
        self.folder = folder
        self._tensors: dict[str, TensorInfo] = {}
        for file in _files(folder, name):
            self._tensors.update(_read_header(file))

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one tensor without reading it."""
        return self._tensors[name].shape

    def parameters(self) -> int:
        """Count the stored numbers."""
        return sum(math.prod(info.shape) for info in self._tensors.values())

    @property
    def dtype(self) -> str:
        """Name the type most of the numbers are stored in, as safetensors spells it."""
        sizes: dict[str, int] = {}
        for info in self._tensors.values():
            sizes[info.dtype] = sizes.get(info.dtype, 0) + math.prod(info.shape)
        return max(sizes, key=lambda dtype: sizes[dtype])

    def read(self, name: str) -> NDArray[np.float32]:
        """Read one tensor as float32, which holds every stored type but float64 exactly.

        Shape: as stored: maps (out, in), norms (C,).
        Raises: CheckpointError for a tensor that is absent.
        """
        import numpy as np

        info = self._tensors.get(name)
        if info is None:
            raise CheckpointError(
                f"{self.folder} has no tensor {name!r}",
                hint="the weights do not belong to this config.json",
            )
        numpy_type = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}[info.dtype]
        raw = np.memmap(info.file, numpy_type, "r", info.start, info.shape or (1,))
        if info.dtype == "BF16":
            # bfloat16 is the upper half of a float32.
            return (raw.astype(np.uint32) << 16).view(np.float32).reshape(info.shape)
        return np.asarray(raw, dtype=np.float32).reshape(info.shape)


def _files(folder: Path, name: str) -> list[Path]:
    index = folder / f"{name}.safetensors.index.json"
    if index.is_file():
        try:
            names = json.loads(index.read_text())["weight_map"].values()
        except (ValueError, KeyError, AttributeError) as fault:
            raise CheckpointError(f"{index} is not a safetensors index") from fault
        files = [folder / part for part in sorted(set(names))]
    else:
        files = [folder / f"{name}.safetensors"]
    for file in files:
        if not file.is_file():
            raise CheckpointError(
                f"no {file.name} in {folder}",
                hint="give a folder with config.json and model.safetensors",
            )
    return files


def _read_header(file: Path) -> dict[str, TensorInfo]:
    size = file.stat().st_size
    torn = CheckpointError(
        f"{file} is damaged or incomplete",
        hint="fetch the model again, or pick an older checkpoint",
    )
    with file.open("rb") as stream:
        head = stream.read(8)
        if len(head) < 8:
            raise torn
        (length,) = struct.unpack("<Q", head)
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise torn
        try:
            header: dict[str, Any] = json.loads(stream.read(length))
        except ValueError as fault:
            raise torn from fault
    tensors: dict[str, TensorInfo] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape = entry["dtype"], tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        if dtype not in WIDTHS:
            raise CheckpointError(
                f"tensor {name!r} of {file} is stored as {dtype}",
                hint=f"weights must be one of {', '.join(WIDTHS)}",
            )
        if end - begin != math.prod(shape) * WIDTHS[dtype] or 8 + length + end > size:
            raise torn
        tensors[name] = TensorInfo(file, dtype, shape, 8 + length + begin)
    return tensors
