"""The shape of a model."""

from __future__ import annotations

from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class ModelSection:
    """The shape of a model."""
