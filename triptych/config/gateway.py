"""Settings of the tiered gateway."""

from __future__ import annotations

from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class GatewayConfig:
    """Settings of the tiered gateway."""
