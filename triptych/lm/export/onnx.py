"""Write a model folder as ONNX: token ids in, logits out, any batch and length up to the context.

The graph is the reference model's forward pass in standard operators; there is no key-value
cache in it. The tokenizer's files are copied beside it. Left out: running it.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from triptych.durable import atomic_folder
from triptych.errors import ExportError

COPIED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class OnnxReport:
    """What was written."""

    path: Path
    opset: int
    size_bytes: int


def export_onnx(folder: Path, out: Path) -> OnnxReport:
    """Write `model.onnx` and the tokenizer into the folder `out`, complete or not at all.

    Raises: ExportError where the ONNX packages are missing; CheckpointError for a damaged folder.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it and names it only late
    except ImportError as fault:
        raise ExportError(
            "the ONNX packages are not installed", hint='pip install "triptych[onnx]"'
        ) from fault
    import torch

    from triptych.lm.model.checkpoint import load_model

    model = load_model(folder, dtype=torch.float32).eval()
    ids_BT = torch.zeros((2, 8), dtype=torch.int64)
    batch = torch.export.Dim("batch", min=1, max=4096)
    positions = torch.export.Dim("positions", min=1, max=model.config.max_position_embeddings)
    with atomic_folder(out) as partial:
        path = partial / "model.onnx"
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                model,
                (ids_BT,),
                dynamo=True,
                dynamic_shapes=({0: batch, 1: positions},),
                input_names=["input_ids"],
                output_names=["logits"],
                verbose=False,
            )
        assert program is not None
        program.save(path, external_data=False)
        written = onnx.load(path)
        onnx.checker.check_model(written, full_check=True)
        for name in COPIED:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, partial / name)
        return OnnxReport(out / "model.onnx", written.opset_import[0].version, path.stat().st_size)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes about its own inner workings off the screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
