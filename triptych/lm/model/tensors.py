"""A safetensors file, written with the errors of the disk as StorageError.

Tensors that are spread over processes (DTensors) are gathered and written one after the other, so
that no process ever holds more than one of them whole.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from triptych.durable import storage_errors


def save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write a safetensors file, as transformers marks it.

    With tensors that are spread this is a collective: the other processes call `follow_save` with
    the same tensors in the same order.

    Shape: any, kept as it is; views are written whole.
    Raises: StorageError when the disk is full or the folder cannot be written.
    """
    if any(map(is_spread, tensors.values())):
        with storage_errors(file):
            _save_in_turn(tensors, file)
        return
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with storage_errors(file):
        try:
            save_file(contiguous, file, metadata={"format": "pt"})
        except SafetensorError as error:
            # The library hides the system's error number in its words.
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(file)) from error


def is_spread(tensor: Tensor) -> bool:
    """Return whether each process holds only a part of this tensor (a DTensor).

    Shape: any.
    """
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Gather a tensor that is spread; return any other as it is.

    A collective: every process must call it, in the same order, also those that drop the result.

    Shape: the shape of the whole tensor.
    """
    if not is_spread(tensor):
        return tensor
    gathered: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return gathered


def follow_save(tensors: Iterable[Tensor]) -> None:
    """Take part in the gathering of tensors that another process writes.

    Shape: any.
    """
    for tensor in tensors:
        whole(tensor)


_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16",
    torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def _save_in_turn(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write the header, whose offsets follow from the shapes, and then each tensor.

    Shape: any.
    Source: the safetensors format: 8 bytes of length, the header as JSON, the data.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in tensors.items():
        end = at + tensor.numel() * tensor.element_size()
        kind = _NAMES[tensor.dtype]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            part = whole(tensor).detach().cpu().contiguous().reshape(-1)
            out.write(part.view(torch.uint8).numpy().data)
