"""Settings of the web pages."""

from __future__ import annotations

from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class PanelsConfig:
    """Settings of the web pages."""
