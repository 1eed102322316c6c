"""A challenger that is another prompt: entered at the gateway, beside a copy of the champion."""

from __future__ import annotations

from typing import Any

from triptych.errors import LearningError
from triptych.learning.loop.gateway import Gateway
from triptych.wire.tiers import challenger_of

_COPIED = (
    "provider", "address", "company_id", "key_name", "external", "revision", "hardware",
)  # fmt: skip


def active(gateway: Gateway, tier: str) -> str:
    """Return the system prompt that a tier has now; empty where it has none."""
    rows = gateway.call("GET", "/admin/prompts")["prompts"]
    return next((str(row["text"]) for row in rows if row["tier"] == tier and row["active"]), "")


def enter(gateway: Gateway, tier: str, text: str) -> int:
    """Make a text the prompt of a tier's challenger; return its version."""
    found = gateway.call("POST", f"/admin/prompts/{challenger_of(tier)}", {"text": text})
    return int(found["version"])


def challenger(gateway: Gateway, tier: str, champion: str | None = None) -> str:
    """Return the upstream that offers a tier's challenger; where none does, enter one.

    The new one is a copy of the champion: the same model at the same address, asked as challenger.

    Raises: LearningError where it is not clear which upstream serves the tier.
    """
    found: dict[str, dict[str, Any]] = {
        one["name"]: one for one in gateway.call("GET", "/admin/upstreams")["upstreams"]
    }
    name = challenger_of(tier)
    offering = [one for one, row in found.items() if name in row["models"]]
    if len(offering) == 1:
        return offering[0]
    serving = [one for one, row in found.items() if tier in row["models"]]
    if offering or (champion or (serving[0] if len(serving) == 1 else None)) not in serving:
        raise LearningError(
            f"upstreams that offer {tier}: {', '.join(serving) or 'none'}; {name}: "
            f"{', '.join(offering) or 'none'}",
            hint="name the one that serves the tier with --champion",
        )
    copied = champion or serving[0]
    row = found[copied]
    body = {key: row[key] for key in _COPIED if row.get(key) is not None}
    new = f"{copied}-challenger"
    gateway.call("PUT", f"/admin/upstreams/{new}", {**body, "models": {name: row["models"][tier]}})
    return new
