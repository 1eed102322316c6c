"""The ways to reach a model: OpenAI-compatible addresses, Spaces, local model servers, scripts."""

from __future__ import annotations

from triptych.tiers.providers.base import Completion, Frame, Probe, Provider, UpstreamCall
from triptych.tiers.rules.catalogue import Upstream

__all__ = ["Completion", "Frame", "Probe", "Provider", "Upstream", "UpstreamCall"]
