"""Load what a reference was found to be: a model, or an adapter on its base, as one transformer."""

from __future__ import annotations

from triptych.lm.model import lora
from triptych.lm.model.adapter_record import ModelSource
from triptych.lm.model.checkpoint import load_model
from triptych.lm.model.manifest import verify_manifest
from triptych.lm.model.transformer import Transformer


def load_source(source: ModelSource, *, device: str = "cpu") -> Transformer:
    """Load a model; an adapter is put beside the weights of its base.

    Raises: CheckpointError where a folder is torn, or the adapter belongs to another model.
    """
    model = load_model(source.folder, device=device)
    if source.adapter is not None:
        verify_manifest(source.adapter)
        lora.load_lora(source.adapter, model)
    return model.eval()
