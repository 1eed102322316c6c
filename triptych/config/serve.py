"""Settings of the HTTP face of a model."""

from __future__ import annotations

from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class ServeConfig:
    """Settings of the HTTP face of a model."""
