"""Read the weights of a GGUF file under the names of a Hugging Face checkpoint.

Quantised tensors become float32, value for value what llama.cpp multiplies by, so a model that
comes as a GGUF can be trained, evaluated and merged like any folder. Left out: the file's
metadata (`lm/export/gguf_folder`) and writing GGUF (`lm/export/gguf`).

Source: the GGUF specification.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triptych.errors import CheckpointError
from triptych.lm.model.gguf.names import LAYER_NAMES

_OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_PARTS = {theirs: ours for ours, theirs in LAYER_NAMES.items()}


def read_gguf_weights(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a Llama or Qwen3 GGUF as float32, named as in a checkpoint folder.

    A tied output head is yielded too, as the embedding table.

    Shape: each that of the checkpoint's tensor of its name.
    Raises: CheckpointError where the file is damaged or holds another kind of model.
    """
    from gguf import GGUFReader, quants

    try:
        reader = GGUFReader(file)
        kind = str(reader.fields["general.architecture"].contents())
        heads = int(reader.fields[f"{kind}.attention.head_count"].contents())
        shared = reader.fields.get(f"{kind}.attention.head_count_kv")
        kv_heads = heads if shared is None else int(shared.contents())
    except (ValueError, KeyError, IndexError, OSError) as fault:
        raise CheckpointError(
            f"{file} is damaged, or no GGUF of a language model: {fault}",
            hint="fetch it again",
            code="torn",
        ) from fault
    tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    for tensor in reader.tensors:
        name = _checkpoint_name(tensor.name)
        if name is None:
            continue
        values = quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if kind == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            values = half_split_rows(values, heads if "q_proj" in name else kv_heads)
        weight = torch.from_numpy(np.ascontiguousarray(values))
        yield name, weight
        if tied and name == "model.embed_tokens.weight":
            yield "lm_head.weight", weight


def half_split_rows(weight: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """Reorder the rows of a query or key projection from interleaved to half-split rotary pairs.

    llama.cpp rotates a Llama's pairs (0, 1), (2, 3), ...; a Hugging Face checkpoint has them at
    (0, H/2), (1, H/2 + 1), ... The inverse of `lm/export/gguf.permute_rope_rows`.

    Shape: [N*H, C] -> [N*H, C].
    """
    rows, width = weight.shape
    half = rows // num_heads // 2
    return weight.reshape(num_heads, half, 2, width).swapaxes(1, 2).reshape(rows, width)


def _checkpoint_name(name: str) -> str | None:
    """Translate a GGUF tensor name; None for a table of rotary factors, which the shape implies."""
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    parts = name.split(".")
    if parts[0] == "blk" and len(parts) == 4 and parts[2] in _PARTS:
        return f"model.layers.{parts[1]}.{_PARTS[parts[2]]}.{parts[3]}"
    return None if name.startswith("rope_freqs") else name
