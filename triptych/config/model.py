"""The shape of a model trained from scratch: a size on the dial, and any field changed by hand.

A field left empty is the size's own; the vocabulary is the corpus's. Names are those of a
Hugging Face `config.json`. Left out: what a shape means (`lm/model/config.py`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

SETTINGS = ConfigDict(extra="forbid", use_attribute_docstrings=True)

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, config=SETTINGS)
class ModelSection:
    """The shape of a model trained from scratch."""

    size: Literal["nano", "micro", "tiny", "small", "medium", "large"] = "tiny"
    """The dial: it sets the shape, and the recipe derives batch, rates and horizon from it."""

    model_type: Literal["qwen3", "llama"] = "qwen3"
    """`qwen3` normalises queries and keys per head, `llama` does not."""

    hidden_size: Count | None = None
    """Width of the stream between layers."""

    intermediate_size: Count | None = None
    """Width inside the feed-forward part."""

    num_hidden_layers: Count | None = None
    """Layers."""

    num_attention_heads: Count | None = None
    """Query heads."""

    num_key_value_heads: Count | None = None
    """Key and value heads; fewer than query heads share them. Empty: as many as query heads."""

    head_dim: Count | None = None
    """Width of one head. Empty: `hidden_size` shared by the heads."""

    max_position_embeddings: Count | None = None
    """Longest text in tokens."""

    rope_theta: Annotated[float, Field(gt=0)] | None = None
    """Base of the rotary positions."""

    tie_word_embeddings: bool | None = None
    """Use one table for reading tokens and for the output head."""
