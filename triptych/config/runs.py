"""Settings of training runs."""

from __future__ import annotations

from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class RunsConfig:
    """Settings of training runs."""
