"""A Space: found by its id, woken when it sleeps, asked in the dialect it speaks.

The dialect is found out once for all callers and remembered until it stops working. Order:
OpenAI's `/v1`, the originals' shapes, a Gradio call. Stages and waking are in `lifecycle`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator

from triptych.config.gateway import GatewayConfig
from triptych.errors import (
    UpstreamError,
    UpstreamFailed,
    UpstreamMalformed,
    UpstreamMissing,
    UpstreamRejected,
    UpstreamUnreachable,
)
from triptych.tiers.providers import gradio
from triptych.tiers.providers.base import Completion, CompletionsOnly, Frame, Probe, UpstreamCall
from triptych.tiers.providers.dialects import DIALECTS, Answered, Dialect
from triptych.tiers.providers.lifecycle import SpaceLifecycle
from triptych.tiers.providers.openai import OpenAIProvider
from triptych.tiers.providers.transport import Transport
from triptych.tiers.rules.catalogue import Upstream
from triptych.wire import openai as shapes

#: Failures that a Space which is not awake produces.
_ABSENT = (UpstreamUnreachable, UpstreamFailed, UpstreamMalformed, UpstreamMissing)


class HfSpaceProvider(CompletionsOnly):
    """Answer through one Space."""

    def __init__(self, upstream: Upstream, transport: Transport, config: GatewayConfig) -> None:
        self.upstream = upstream
        self.transport = transport
        self.lifecycle = SpaceLifecycle(
            transport, upstream.address, wake_timeout_s=config.wake_timeout_s
        )
        self._v1: OpenAIProvider | None = None
        self._dialect: Dialect | None = None
        self._path = ""
        self._gradio: gradio.Endpoint | None = None
        self._finding = asyncio.Lock()
        self._revision = ""

    @property
    def dialect(self) -> str:
        """Name the dialect in use."""
        if self._v1 is not None:
            return "v1"
        if self._gradio is not None:
            return "gradio"
        return self._dialect.name if self._dialect else ""

    async def complete(self, call: UpstreamCall) -> Completion:
        """Return the whole answer, waiting for a Space that wakes."""
        try:
            return await self._complete(call)
        except _ABSENT as error:
            await self._recover(call, error)
            return await self._complete(call)

    async def _complete(self, call: UpstreamCall) -> Completion:
        await self._find(call)
        if self._v1 is not None:
            try:
                done = await self._v1.complete(call)
            except (UpstreamMissing, UpstreamMalformed):
                self._forget()
                raise
            done.revision = done.revision or self._revision
            return done
        text, revision = "", ""
        if self._gradio is not None:
            text = "".join([piece async for piece in self._gradio_pieces(call)])
        else:
            answered = await self._ask(call)
            text, revision = answered.text, answered.revision
        return self._completion(call, text, revision or self._revision)

    async def stream(self, call: UpstreamCall) -> AsyncGenerator[Frame]:
        """Yield the answer; a dialect that cannot stream gives it in one piece."""
        started = False
        for last_try in (False, True):
            inner = self._stream(call)
            try:
                async for frame in inner:
                    started = True
                    yield frame
                return
            except _ABSENT as error:
                if started or last_try:
                    raise
                await self._recover(call, error)
            finally:
                await inner.aclose()

    async def _stream(self, call: UpstreamCall) -> AsyncGenerator[Frame]:
        await self._find(call)
        if self._v1 is not None:
            frames = self._v1.stream(call)
            try:
                async for frame in frames:
                    yield frame
            except (UpstreamMissing, UpstreamMalformed):
                self._forget()
                raise
            finally:
                await frames.aclose()
            return
        revision = self._revision
        if self._gradio is not None:
            pieces = self._gradio_pieces(call)
        else:
            answered = await self._ask(call)
            revision = answered.revision or revision
            pieces = _one(answered.text)
        writer = shapes.ChunkWriter(
            call.kind, self._model(call), id=call.request_id, fingerprint=revision
        )
        try:
            async for piece in pieces:
                yield Frame(writer.text(piece), _chunk(writer, revision, piece, None))
        finally:
            await pieces.aclose()
        yield Frame(writer.chunk(finish_reason="stop"), _chunk(writer, revision, None, "stop"))

    async def _recover(self, call: UpstreamCall, error: UpstreamError) -> None:
        """Wait for a Space that is not awake; the wait does not count against the attempt."""
        call.waits(True)
        try:
            await self.lifecycle.recover(error)
        finally:
            call.waits(False)

    async def _gradio_pieces(self, call: UpstreamCall) -> AsyncGenerator[str]:
        assert self._gradio is not None
        pieces = gradio.pieces(self.transport, self._gradio, call)
        try:
            async for piece in pieces:
                yield piece
        except UpstreamMissing:
            self._forget()
            raise
        finally:
            await pieces.aclose()

    def _completion(self, call: UpstreamCall, text: str, revision: str) -> Completion:
        choice = shapes.chat_choice(text) if call.kind == "chat" else shapes.text_choice(text)
        body = shapes.completion(
            call.kind,
            self._model(call),
            [choice],
            {},
            id=call.request_id,
            system_fingerprint=revision or None,
        )
        body["usage"] = None
        return Completion(body, None, revision)

    def _model(self, call: UpstreamCall) -> str:
        return call.model or self.upstream.address

    # -- dialects --------------------------------------------------------------------------------

    async def _find(self, call: UpstreamCall) -> None:
        """Find out what the Space speaks, once for all callers."""
        if self._v1 is None and self._gradio is None and self._dialect is None:
            async with self._finding:
                if self._v1 is None and self._gradio is None and self._dialect is None:
                    await self._detect(call)

    async def _detect(self, call: UpstreamCall) -> None:
        base = (await self.lifecycle.place()).base
        if await self._speaks_v1():
            await self._read_revision()
            self._v1 = OpenAIProvider(
                dataclasses.replace(self.upstream, address=str(base / "v1")), self.transport
            )
            return
        tried: UpstreamError | None = None
        described = await self._described_paths()
        for dialect in DIALECTS:
            for path in dialect.paths:
                if described and f"/{path}" not in described:
                    continue
                try:
                    body, _ = await self.transport.json(
                        "POST", base / path if path else base, payload=dialect.encode(_short(call))
                    )
                    dialect.decode(body)
                except (UpstreamMissing, UpstreamMalformed, UpstreamRejected) as error:
                    tried = tried or error
                    continue
                self._dialect, self._path = dialect, path
                return
        try:
            self._gradio = await gradio.discover(self.transport, base)
        except (UpstreamMissing, UpstreamMalformed) as error:
            raise UpstreamMissing(
                f"{self.upstream.name} speaks none of the known dialects",
                hint="`triptych gateway probe` tests it; is it the address of an application?",
            ) from (tried or error)

    async def _speaks_v1(self) -> bool:
        base = (await self.lifecycle.place()).base
        try:
            body, _ = await self.transport.json("GET", base / "v1" / "models")
        except (UpstreamMissing, UpstreamRejected):
            return False
        except UpstreamMalformed as error:
            if error.code == "upstream_page":
                raise
            return False
        return isinstance(body, dict) and isinstance(body.get("data"), list)

    async def _described_paths(self) -> frozenset[str]:
        """Read which paths the Space's own OpenAPI description knows, if it has one."""
        base = (await self.lifecycle.place()).base
        try:
            body, _ = await self.transport.json("GET", base / "openapi.json")
        except (UpstreamMissing, UpstreamMalformed, UpstreamRejected, UpstreamFailed):
            return frozenset()
        paths = body.get("paths") if isinstance(body, dict) else None
        return frozenset(paths) if isinstance(paths, dict) else frozenset()

    async def _read_revision(self) -> None:
        base = (await self.lifecycle.place()).base
        try:
            body, _ = await self.transport.json("GET", base / "health")
        except UpstreamError:
            return
        if isinstance(body, dict):
            self._revision = str(body.get("revision") or body.get("model_version") or "")

    async def _ask(self, call: UpstreamCall) -> Answered:
        assert self._dialect is not None
        base = (await self.lifecycle.place()).base
        url = base / self._path if self._path else base
        try:
            body, _ = await self.transport.json("POST", url, payload=self._dialect.encode(call))
            return self._dialect.decode(body)
        except (UpstreamMissing, UpstreamMalformed):
            self._forget()
            raise

    def _forget(self) -> None:
        self._v1 = self._dialect = self._gradio = None

    async def probe(self) -> Probe:
        """Ask the Space one short question, as a user would."""
        start = time.monotonic()
        call = UpstreamCall(
            request_id="probe",
            kind="chat",
            messages=[{"role": "user", "content": "Respond with the word Success"}],
            params={"max_tokens": 8, "temperature": 0},
            model=next(iter(self.upstream.models.values()), ""),
            tier=next(iter(self.upstream.models), "base"),
            deadline_s=start + 60,
        )
        code = message = revision = ""
        try:
            revision = (await self.complete(call)).revision
        except UpstreamError as error:
            code, message = error.code, f"{error.message} {error.hint}".strip()
        return Probe(
            not code,
            time.monotonic() - start,
            dialect=self.dialect,
            revision=revision,
            stage=self.lifecycle.stage,
            error_code=code,
            message=message,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.lifecycle.close()
        await self.transport.close()


async def _one(text: str) -> AsyncGenerator[str]:
    yield text


def _short(call: UpstreamCall) -> UpstreamCall:
    """Make the question by which a dialect is found; a user's text is asked once only."""
    return dataclasses.replace(
        call,
        messages=[{"role": "user", "content": "Hello"}],
        params={"max_tokens": 1},
        company_context=None,
        abstraction_context=None,
    )


def _chunk(
    writer: shapes.ChunkWriter, revision: str, text: str | None, finish: str | None
) -> shapes.Shape:
    return shapes.chunk(
        writer.kind,
        writer.model,
        id=writer.id,
        created=writer.created,
        text=text,
        finish_reason=finish,
        system_fingerprint=revision or None,
    )
