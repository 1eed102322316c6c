"""A safetensors file, written with the errors of the disk as StorageError."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from triptych.durable import storage_errors


def save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write a safetensors file, as transformers marks it.

    Shape: any, kept as it is; views are written whole.
    Raises: StorageError when the disk is full or the folder cannot be written.
    """
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
