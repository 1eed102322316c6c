"""The three tiers: names, challengers, and the Space of each as the environment names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Tier = Literal["base", "company", "abstraction"]
TIERS: tuple[Tier, ...] = get_args(Tier)


def challenger_of(tier: str) -> str:
    """Return the model name under which an upstream offers a challenger of a tier."""
    return f"{tier}.challenger"


def challenged_tier(model: str) -> str:
    """Return the tier of which a model name is the challenger; empty for any other name."""
    tier, _, rest = model.partition(".")
    return tier if rest and model in CHALLENGERS else ""


CHALLENGERS: tuple[str, ...] = tuple(challenger_of(tier) for tier in TIERS)

SPACES: Mapping[str, tuple[str, str]] = {
    "base": ("HF_BASE_SPACE", "company-base-llm"),
    "company": ("HF_COMPANY_SPACE", "company-specific-llm"),
    "abstraction": ("HF_ABSTRACTION_SPACE", "company-abstraction-llm"),
}
"""Tier -> environment variable with the name of its Space, and the name where that is unset."""
