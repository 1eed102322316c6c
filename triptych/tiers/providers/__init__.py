"""The ways to reach a model: OpenAI-compatible addresses, Spaces, local faces, scripts."""

from __future__ import annotations

from triptych.tiers.providers.base import Call, Completion, Frame, Probe, Provider
from triptych.tiers.rules.catalogue import Upstream

__all__ = ["Call", "Completion", "Frame", "Probe", "Provider", "Upstream"]
