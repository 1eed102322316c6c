"""A model server on this machine: OpenAI's API, plus `/health` with the revision it serves.

The process supervisor starts and watches it; the gateway only calls it.
"""

from __future__ import annotations

import time

from triptych.errors import UpstreamError
from triptych.tiers.providers.base import Completion, Probe, UpstreamCall
from triptych.tiers.providers.openai import OpenAIProvider


class LocalProvider(OpenAIProvider):
    """Call a model server, and remember the revision it reports."""

    _revision = ""

    async def complete(self, call: UpstreamCall) -> Completion:
        """Return the whole answer with the server's revision."""
        done = await super().complete(call)
        done.revision = done.revision or self._revision
        return done

    async def probe(self) -> Probe:
        """Ask `/health` for the revision, then the first model for one answer."""
        start = time.monotonic()
        try:
            body, _ = await self.transport.json("GET", self.base.origin() / "health")
        except UpstreamError as error:
            return Probe(
                False, time.monotonic() - start, error_code=error.code, message=error.message
            )
        self._revision = str(body.get("revision") or "") if isinstance(body, dict) else ""
        answered = await super().probe()
        answered.latency_s = time.monotonic() - start
        answered.revision = self._revision or answered.revision
        return answered
