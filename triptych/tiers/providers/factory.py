"""Build the provider of an upstream, with its key and its timeouts."""

from __future__ import annotations

from triptych.config import environment
from triptych.config.gateway import GatewayConfig
from triptych.tiers.providers import anthropic, gemini
from triptych.tiers.providers.anthropic import Anthropic
from triptych.tiers.providers.base import Provider
from triptych.tiers.providers.gemini import Gemini
from triptych.tiers.providers.hf_space import HfSpaceProvider
from triptych.tiers.providers.keys import Keys, bearer
from triptych.tiers.providers.local import LocalProvider
from triptych.tiers.providers.openai import OpenAIProvider
from triptych.tiers.providers.scripted import ScriptedProvider
from triptych.tiers.providers.translated import TranslatedProvider
from triptych.tiers.providers.transport import Transport
from triptych.tiers.rules.catalogue import HOSTED, Upstream
from triptych.tiers.rules.egress import parse_address

_HEADERS = {"anthropic": anthropic.key_header, "gemini": gemini.key_header}


class Factory:
    """Know how providers are built, and where their keys come from."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self.entered_keys: dict[str, str] = {}
        """Keys that admins entered, opened."""

    def check(self, upstream: Upstream) -> None:
        """Refuse an upstream that could not be built.

        Raises: UpstreamError when its address is not valid.
        """
        if upstream.provider in (*HOSTED, "local") or "://" in upstream.address:
            parse_address(upstream.address)

    def build(self, upstream: Upstream) -> Provider:
        """Build one provider."""
        if upstream.provider == "scripted":
            return ScriptedProvider(upstream)
        transport = Transport(
            upstream,
            keys=Keys(
                [self._key(name) for name in upstream.all_key_names],
                _HEADERS.get(upstream.provider, bearer),
            ),
            connect_timeout_s=self._config.connect_timeout_s,
        )
        if upstream.provider == "hf_spaces":
            return HfSpaceProvider(upstream, transport, self._config)
        if upstream.provider == "local":
            return LocalProvider(upstream, transport)
        if upstream.provider == "anthropic":
            return TranslatedProvider(upstream, transport, Anthropic())
        if upstream.provider == "gemini":
            return TranslatedProvider(upstream, transport, Gemini())
        return OpenAIProvider(upstream, transport)

    def has_key(self, name: str) -> bool:
        """Return whether there is a key under this name, without saying which."""
        return bool(self._key(name))

    def _key(self, name: str) -> str:
        if not name:
            return ""
        entered = self.entered_keys.get(name)
        if entered is not None:
            return entered
        found = environment.secret(name)
        return found.reveal() if found else ""
