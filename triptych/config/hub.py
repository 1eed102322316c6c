"""Settings of the hub, both sides."""

from __future__ import annotations

from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class HubConfig:
    """Settings of the hub, both sides."""
