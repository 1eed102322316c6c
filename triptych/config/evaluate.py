"""Settings of evaluation: how much is read, in which pieces."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

SETTINGS = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, kw_only=True, config=SETTINGS)
class EvaluateConfig:
    """Settings of evaluation."""

    context_length: Annotated[int, Field(ge=2)] | None = None
    """Tokens in one window; empty takes the model's `max_position_embeddings`, at most 1024."""

    batch_size: Annotated[int, Field(ge=1)] = 8
    """Windows in one forward pass."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens read at most, in windows spread evenly over the text; empty reads all."""

    device: str = "auto"
    """`cpu`, `cuda`; `auto` takes a GPU if there is one."""
