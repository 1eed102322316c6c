"""A Space: found by its id, woken when it sleeps, asked in the dialect it speaks.

The dialect is found out once and remembered until it stops working. Order: OpenAI's `/v1`, then
the originals' shapes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from yarl import URL

from triptych.config import environment
from triptych.config.gateway import GatewayConfig
from triptych.errors import UpstreamError, UpstreamMalformed, UpstreamMissing, UpstreamRejected
from triptych.tiers.catalogue import direct_host, space_id
from triptych.tiers.egress import parse_address
from triptych.tiers.providers.base import Call, Completion, Frame, Probe, Upstream
from triptych.tiers.providers.dialects import DIALECTS, Answered, Dialect
from triptych.tiers.providers.openai import OpenAIProvider
from triptych.tiers.providers.transport import Transport
from triptych.wire import openai as shapes


class HfSpaceProvider:
    """Answer through one Space."""

    def __init__(self, upstream: Upstream, transport: Transport, config: GatewayConfig) -> None:
        self.upstream = upstream
        self.transport = transport
        self._config = config
        self._base: URL | None = None
        self._v1: OpenAIProvider | None = None
        self._dialect: Dialect | None = None
        self._path = ""
        self._finding = asyncio.Lock()
        self._revision = ""

    async def complete(self, call: Call) -> Completion:
        """Return the whole answer."""
        v1 = await self._speaker()
        if v1 is not None:
            try:
                done = await v1.complete(call)
            except UpstreamMissing:
                self._forget()
                raise
            done.revision = done.revision or self._revision
            return done
        answered = await self._ask(call)
        return self._completion(call, answered)

    async def stream(self, call: Call) -> AsyncGenerator[Frame]:
        """Yield the answer; a Space that cannot stream gives it in one piece."""
        v1 = await self._speaker()
        if v1 is not None:
            inner = v1.stream(call)
            try:
                async for frame in inner:
                    yield frame
            finally:
                await inner.aclose()
            return
        answered = await self._ask(call)
        writer = shapes.ChunkWriter(
            call.kind, self._model(call), id=call.request_id, fingerprint=answered.revision
        )
        for text, finish in ((answered.text, None), (None, "stop")):
            chunk = shapes.chunk(
                call.kind,
                writer.model,
                id=writer.id,
                created=writer.created,
                text=text,
                finish_reason=finish,
                system_fingerprint=answered.revision or None,
            )
            wire = writer.text(text) if text is not None else writer.chunk(finish_reason=finish)
            yield Frame(wire, chunk)

    def _completion(self, call: Call, answered: Answered) -> Completion:
        choice = (
            shapes.chat_choice(answered.text)
            if call.kind == "chat"
            else shapes.text_choice(answered.text)
        )
        body = shapes.completion(
            call.kind,
            self._model(call),
            [choice],
            {},
            id=call.request_id,
            system_fingerprint=answered.revision or None,
        )
        body["usage"] = None
        return Completion(body, None, answered.revision or self._revision)

    def _model(self, call: Call) -> str:
        return call.model or self.upstream.address

    async def _ask(self, call: Call) -> Answered:
        """Ask in the remembered dialect, or try each until one is understood."""
        base = await self.base()
        if self._dialect is not None:
            try:
                return await self._say(self._dialect, base / self._path, call)
            except (UpstreamMissing, UpstreamMalformed):
                self._forget()
                raise
        last: UpstreamError | None = None
        for dialect in DIALECTS:
            for path in dialect.paths:
                try:
                    answered = await self._say(dialect, base / path if path else base, call)
                except (UpstreamMissing, UpstreamMalformed, UpstreamRejected) as error:
                    last = last or error
                    continue
                self._dialect, self._path = dialect, path
                return answered
        raise UpstreamMissing(
            f"{self.upstream.name} speaks none of the known dialects",
            hint="`triptych gateway probe` shows what was tried",
        ) from last

    async def _say(self, dialect: Dialect, url: URL, call: Call) -> Answered:
        body, _ = await self.transport.json("POST", url, payload=dialect.encode(call))
        return dialect.decode(body)

    async def _speaker(self) -> OpenAIProvider | None:
        """Return the `/v1` speaker if the Space has one; found out once for all callers."""
        if self._v1 is not None or self._dialect is not None:
            return self._v1
        async with self._finding:
            if self._v1 is None and self._dialect is None:
                base = await self.base()
                try:
                    body, _ = await self.transport.json("GET", base / "v1" / "models")
                except (UpstreamMissing, UpstreamMalformed):
                    return None
                if isinstance(body, dict) and isinstance(body.get("data"), list):
                    await self._read_revision(base)
                    self._v1 = OpenAIProvider(_at(self.upstream, base / "v1"), self.transport)
        return self._v1

    async def _read_revision(self, base: URL) -> None:
        try:
            body, _ = await self.transport.json("GET", base / "health")
        except UpstreamError:
            return
        if isinstance(body, dict):
            self._revision = str(body.get("revision") or body.get("model_version") or "")

    def _forget(self) -> None:
        self._v1 = self._dialect = None

    async def base(self) -> URL:
        """Find where the Space answers: its own address, or what the hub says."""
        if self._base is None:
            self._base = await self._locate()
        return self._base

    async def _locate(self) -> URL:
        address = self.upstream.address
        endpoint = environment.hub_endpoint()
        if "://" in address:
            url = parse_address(address)
            if url.host != "huggingface.co" and not str(url).startswith(f"{endpoint}/spaces/"):
                return url
        space = space_id(address)
        if endpoint == environment.DEFAULT_HUB_ENDPOINT:
            return URL(f"https://{direct_host(space)}")
        body, _ = await self.transport.json("GET", URL(f"{endpoint}/api/spaces/{space}/host"))
        host = body.get("host") if isinstance(body, dict) else None
        if not isinstance(host, str) or not host:
            raise UpstreamMissing(f"the hub does not say where {space} answers")
        return parse_address(host)

    async def probe(self) -> Probe:
        """Ask the Space one short question."""
        start = time.monotonic()
        call = Call(
            request_id="probe",
            kind="chat",
            messages=[{"role": "user", "content": "Say: Success"}],
            params={"max_tokens": 8, "temperature": 0},
            model=next(iter(self.upstream.models.values()), ""),
            tier=next(iter(self.upstream.models), "base"),
            deadline_s=start + 60,
        )
        try:
            done = await self.complete(call)
        except UpstreamError as error:
            return Probe(
                False, time.monotonic() - start, error_code=error.code, message=error.message
            )
        dialect = "v1" if self._v1 is not None else self._dialect.name if self._dialect else ""
        return Probe(True, time.monotonic() - start, dialect=dialect, revision=done.revision)

    async def close(self) -> None:
        """Close the connections."""
        await self.transport.close()


def _at(upstream: Upstream, url: URL) -> Upstream:
    import dataclasses

    return dataclasses.replace(upstream, address=str(url))
