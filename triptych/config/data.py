"""Settings of corpus building."""

from __future__ import annotations

from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class DataConfig:
    """Settings of corpus building."""
