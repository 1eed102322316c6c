"""The gateway's codes in words, the same on every page of the Console."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

#: Kinds of provider.
KINDS = {
    "hf_spaces": "Spaces",
    "local": "Models on this machine",
    "openai": "OpenAI-compatible services",
    "anthropic": "Anthropic",
    "gemini": "Gemini",
    "scripted": "Scripted rehearsals",
}
OUTCOMES = {
    "ok": "answered",
    "failed": "failed",
    "refused": "refused",
    "blocked": "blocked",
    "cancelled": "cancelled",
    "interrupted": "interrupted",
}
REASONS = {
    "explicit_model": "the tier was named in the request",
    "auto": "the tier was chosen by the classifier",
    "auto_off": "automatic choice is switched off",
    "auto_abstained": "the classifier was not sure",
    "auto_not_entitled": "the user is no member of the company",
    "auto_flag_disabled": "the chosen tier is switched off",
}
#: Why a request failed, by the error's code.
FAILURES = {
    "no_provider_available": "no provider was available",
    "budget_spent": "a budget was used up",
    "rate_limit_exceeded": "a rate limit was reached",
    "model_not_found": "there is no such model or tier",
    "flag_disabled": "the tier is switched off",
    "not_a_member": "the user is no member of the company",
    "company_required": "no company was named",
    "consent_withdrawn": "consent was withdrawn",
    "invalid_api_key": "the key is unknown, expired or revoked",
    "invalid_request": "a field of the request is not valid",
    "unknown_field": "the provider does not know a field of the request",
    "too_large": "the request is too large",
    "content_filter": "the output filter stopped the answer",
    "structure_invalid": "no answer matched the JSON Schema",
    "cancelled": "the caller closed the connection",
    "breaker_open": "the provider had failed and was paused",
    "upstream_unreachable": "the provider does not answer",
    "upstream_timeout": "the provider took too long",
    "upstream_rejected": "the provider rejected the request",
    "upstream_denied": "the provider refused its key",
    "upstream_missing": "the provider does not have this model",
    "upstream_busy": "the provider is busy",
    "upstream_failed": "the provider had an error",
    "upstream_malformed": "the provider's answer could not be read",
    "upstream_interrupted": "the provider broke off",
    "upstream_truncated": "the provider's answer ended early",
    "upstream_idle": "the provider stopped in the middle of the answer",
    "upstream_first_token": "the provider sent no first token in time",
    "upstream_answer": "the provider sent no answer in time",
    "upstream_page": "the provider sent a web page instead of an answer",
    "space_waking": "the Space was waking up",
    "space_paused": "the Space is paused",
    "space_error": "the Space has an error",
    "space_quota": "the Space's quota is used up",
    "space_queue_full": "the Space's queue is full",
    "internal": "the gateway had an error",
}


def words(code: str | None) -> str:
    """Return a code in words; one without words as it stands."""
    if not code:
        return ""
    return FAILURES.get(code) or REASONS.get(code) or code.replace("_", " ")


def outcome(row: Mapping[str, Any], configured: Collection[str] | None = None) -> str:
    """Return how a request ended, with its cause."""
    why, ended = cause(row, configured), OUTCOMES.get(row["outcome"], str(row["outcome"]))
    return f"{ended}{', ' if why.startswith('after') else ': '}{why}" if why else ended


def cause(row: Mapping[str, Any], configured: Collection[str] | None = None) -> str:
    """Return why a request ended as it did, in one sentence part.

    `configured` are the providers that have an address; None: not known to this visitor.
    """
    code = row.get("error_code")
    if code == "no_provider_available" and (off := switched_off(row, configured)):
        return off
    if code:
        return words(code)
    if row.get("tier_served") not in (None, row.get("tier_asked")):
        return words(row.get("reason"))
    if row.get("fallback_reason"):
        return f"after a fallback: {words(row['fallback_reason'])}"
    if row.get("cached"):
        return "from the cache"
    return words(row.get("reason"))


def switched_off(row: Mapping[str, Any], configured: Collection[str] | None) -> str:
    """Return which switches left a request without a provider; empty where none did."""
    flags: Mapping[str, Any] = row.get("flags") or {}
    tier = row.get("tier_asked")
    if flags.get(f"tier.{tier}") in ("off", False):
        return f"the tier {tier} is switched off"
    considered = [name for name in KINDS if name != "scripted"]
    if configured is not None:
        considered = [name for name in KINDS if name in configured]
        if not considered:
            return "no provider has been added yet"
    off = [KINDS[name] for name in considered if flags.get(f"provider.{name}") in ("off", False)]
    return f"{' and '.join(off)} are switched off" if off else ""
