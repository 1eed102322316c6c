"""The gateway's codes in words, the same on every page of the Console."""

from __future__ import annotations

#: Kinds of provider.
KINDS = {
    "hf_spaces": "Spaces",
    "local": "Models on this machine",
    "openai": "OpenAI-compatible services",
    "scripted": "Scripted rehearsals",
}
#: Why a request failed, by the error's code.
FAILURES = {
    "no_provider_available": "no provider was available",
    "provider_unavailable": "the provider did not answer",
    "provider_timeout": "the provider took too long",
    "provider_error": "the provider answered with an error",
    "budget_spent": "a budget was used up",
    "rate_limited": "a rate limit was reached",
}
