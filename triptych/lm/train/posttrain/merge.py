"""An adapter added to the weights of its base: an ordinary model folder, measured first.

The logits of 64 prompts are compared three times: with the adapter beside the weights, merged, and
read back from the folder. Left out: several adapters in one model, and GGUF (`lm/export`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from triptych.durable import atomic_folder
from triptych.errors import CheckpointError
from triptych.lm.model import lora
from triptych.lm.model.adapter_record import CONFIG, find_source, is_adapter
from triptych.lm.model.checkpoint import (
    GGUF,
    WEIGHTS,
    load_model,
    load_tokenizer,
    save_model,
)
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.model.transformer import Transformer
from triptych.lm.train.posttrain.base import Base, find_base

Precision = Literal["float32", "bfloat16"]
#: Most by which a logit may differ between the adapted and the merged model, both in float32.
ALLOWED_LOGITS = 1e-3
#: Positions of each prompt whose logits are compared: its last ones, which see all of it.
_POSITIONS = 4
_TOPICS = (
    "Paris", "the sea", "an invoice", "a triangle", "snow", "a guarantee", "bread", "the moon",
    "Köln", "a parcel", "electric current", "a river", "chess", "holidays", "glass", "an oak tree",
)  # fmt: skip
_FORMS = (
    "What is {}?",
    "Write one sentence about {}, then count: 1, 2, 3, 4",
    'def about(name="{}"):\n    return name + ": "',
)
_LONGEST = 64


@dataclass(frozen=True)
class Merged:
    """A merged folder, and how far its logits are from those of the base with the adapter.

    `rounding` is what the precision of the saved weights changes; 0 in float32.
    """

    folder: Path
    base: str
    quantised_base: bool
    dtype: str
    difference: float
    rounding: float


def find_adapter(reference: str, resolve: Callable[[str], Path], base: str | None = None) -> Base:
    """Return an adapter and the model it belongs to, or the model that `base` names.

    Raises: CheckpointError where the reference is no adapter, or its base is not found.
    """
    folder = resolve(reference)
    if not is_adapter(folder):
        raise CheckpointError(
            f"{folder} has no {CONFIG}, so there is no adapter to merge",
            hint="name a run of `triptych train --adapter lora`, or a PEFT folder; a run with "
            "train.adapter=none is an ordinary model already",
        )
    source = find_source(reference, resolve, base)
    found = find_base(source.reference, resolve)
    return replace(found, adapter=str(source.adapter))


def merge_adapter(base: Base, out: Path, dtype: Precision = "float32") -> Merged:
    """Merge an adapter in float32, and save the model in a folder that appears only when it agrees.

    The logits of 64 prompts are compared.

    Raises: CheckpointError (code `parity`) where logits differ by more than `ALLOWED_LOGITS`;
    StorageError where `out` exists already.
    """
    tokenizer = load_tokenizer(base.folder)
    model = load_model(base.folder, dtype=torch.float32)
    lora.load_lora(Path(base.adapter), model)
    texts = prompts(tokenizer)
    model.eval()
    with atomic_folder(out) as temporary:
        adapted = _logits(model, texts)
        lora.merge_lora(model)
        difference = _checked(adapted, merged := _logits(model, texts), "the merged weights")
        model.to(torch.float32 if dtype == "float32" else torch.bfloat16)
        kept = _logits(model, texts)
        save_model(temporary, model, tokenizer)
        del model
        stored = load_model(temporary)
        stored.compute_dtype = torch.float32
        # The folder must hold exactly the rounded weights; what rounding costs is reported.
        difference = max(difference, _checked(kept, _logits(stored, texts), "the saved folder"))
    return Merged(
        folder=out,
        base=base.reference,
        quantised_base=(base.folder / GGUF).is_file() and not (base.folder / WEIGHTS).is_file(),
        dtype=dtype,
        difference=difference,
        rounding=_difference(merged, kept),
    )


def prompts(tokenizer: Tokenizer) -> list[list[int]]:
    """Return 64 short prompts as a model reads them: 48 texts and 16 questions of a chat."""
    texts = [tokenizer.encode(form.format(topic)) for topic in _TOPICS for form in _FORMS]
    for topic in _TOPICS:
        question = f"Explain {topic}."
        if tokenizer.chat_template is None:
            texts.append(tokenizer.encode(question))
        else:
            turns = [{"role": "user", "content": question}]
            texts.append(tokenizer.encode_chat(turns, add_generation_prompt=True))
    return [ids[-_LONGEST:] for ids in texts]


@torch.no_grad()
def _logits(model: Transformer, texts: list[list[int]]) -> list[Tensor]:
    """Return the logits of each text's last positions.

    Shape: (up to 4, V) each.
    """
    return [model(torch.tensor([ids]))[0, -_POSITIONS:].float() for ids in texts]


def _difference(left: list[Tensor], right: list[Tensor]) -> float:
    """Return the largest difference of two logits.

    Shape: (positions, V) each, the same on both sides.
    """
    return max(float((a - b).abs().max()) for a, b in zip(left, right, strict=True))


def _checked(wanted: list[Tensor], found: list[Tensor], what: str) -> float:
    """Return the difference, where it is small enough.

    Shape: (positions, V) each, the same on both sides.
    Raises: CheckpointError (code `parity`) where it is not.
    """
    difference = _difference(wanted, found)
    if not difference <= ALLOWED_LOGITS:
        raise CheckpointError(
            f"{what} differ from the adapter beside its base: logits by {difference:.3g}, "
            f"{ALLOWED_LOGITS:g} is allowed",
            hint="nothing was written; train again with a smaller train.learning_rate, or serve "
            "the adapter with `triptych serve BASE --adapter NAME=ADAPTER`",
            code="parity",
        )
    return difference
