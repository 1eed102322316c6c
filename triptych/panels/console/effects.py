"""Say what a change of flags would have meant for the last hour's requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def effects(changes: Mapping[str, bool | str], hour: Mapping[str, Any]) -> list[str]:
    """Write one line for each change.

    `hour` counts the last hour's requests by `provider` and by `tier_served`, and its `fallbacks`.
    """
    total = sum(hour["provider"].values())
    if not total:
        quiet = "no request in the last hour, so nothing would have gone elsewhere"
        return [f"{_words(key, value)}: {quiet}." for key, value in changes.items()]
    return [f"{_words(key, value)}: {_effect(key, value, hour, total)}."
            for key, value in changes.items()]  # fmt: skip


def _words(key: str, value: bool | str) -> str:
    if isinstance(value, str):
        return f"{key} = {value}"
    return f"{key} {'on' if value else 'off'}"


def _effect(key: str, value: bool | str, hour: Mapping[str, Any], total: int) -> str:
    def share(count: int) -> str:
        return f"{count / total:.0%} of the last hour's {total} requests"

    providers, tiers = hour["provider"], hour["tier_served"]
    if key == "provider":
        if value == "auto":
            return "the configured order decides again"
        others = total - providers.get(str(value), 0)
        return f"{share(others)} would have gone elsewhere"
    kind, _, name = key.partition(".")
    if value:
        return "open to the requests that follow; none before would have changed"
    if kind == "provider":
        lost = f"{share(providers.get(name, 0))} would have gone elsewhere"
        ends = "; company and abstraction tier are turned off with it"
        return lost + (ends if name == "hf_spaces" else "")
    if kind == "tier":
        return f"{share(tiers.get(name, 0))} would have gone elsewhere"
    if key == "fallback":
        return f"{share(hour['fallbacks'])} fell back and would have failed"
    return "which tier answers stays the same"
