"""Settings of post-training: which conversations, which adapter, which preference loss.

What every run shares (steps, rates, checkpoints, the machine) stays in the section `train`, whose
`method` and `adapter` choose what these settings mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

SETTINGS = ConfigDict(extra="forbid", use_attribute_docstrings=True)

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, config=SETTINGS)
class PosttrainConfig:
    """Settings of SFT, DPO and KTO."""

    batch_rows: Count | None = None
    """Conversations, pairs or labelled answers in one optimizer step; derived from their number."""

    val_data: Path | None = None
    """File of rows to evaluate on; empty holds out a share of the training file."""

    val_frac: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of the prompts held out for evaluation; rows with one prompt stay together."""

    general_data: Path | None = None
    """Text whose beginning forgetting is measured on; empty takes a page of plain English."""

    replay_frac: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Tokens of `general_data` trained on beside each step's rows, as a share of the rows' tokens.

    Their mean loss is added with the same factor. What forgetting is measured on is never trained.
    """

    beta: Annotated[float, Field(gt=0.0)] = 0.1
    """Strength with which DPO and KTO stay near the reference model."""

    desirable_weight: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the answers that KTO should make likelier."""

    undesirable_weight: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the answers that KTO should make less likely."""


@dataclass(frozen=True, kw_only=True, config=SETTINGS)
class LoraSection:
    """The adapter of `train.adapter = "lora"`."""

    rank: Count = 16
    """Inner width of the adapter."""

    alpha: Annotated[float, Field(gt=0.0)] = 32.0
    """The adapter's product is scaled by `alpha / rank`."""

    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Probability of dropping an input of the adapter."""

    target_modules: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj",
        "gate_proj", "up_proj", "gate_up_proj", "down_proj",
    )  # fmt: skip
    """The linear maps of each layer that get an adapter, where the model has them."""

    rank_stabilised: bool = False
    """Scale by `alpha / sqrt(rank)` instead (rsLoRA)."""

    first_layer: Annotated[int, Field(ge=0)] = 0
    """The lowest layer that gets an adapter; what the layers below give is computed once and kept.

    Half of a model's layers take about half the time of a step, and learn less.
    """
