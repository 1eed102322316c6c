"""What every provider is: one small class that turns a `UpstreamCall` into OpenAI's shapes.

The circuit breaker, retries and deadlines stand above (`dispatch`); HTTP and its errors stand
below (`transport`). A provider raises `UpstreamError` and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

from triptych.errors import UpstreamMissing
from triptych.tiers.rules.catalogue import Upstream
from triptych.tiers.rules.query import Kind, Message


def _no_clock(_: bool) -> None:
    """Outside the dispatcher there is no clock to stop."""


class AnswerMask(Protocol):
    """Put the texts back in an answer that were masked in its call."""

    def restored(self, completion: Completion) -> Completion:
        """Return a whole answer with the texts put back."""
        ...

    def frames(self, frames: AsyncGenerator[Frame]) -> AsyncGenerator[Frame]:
        """Yield a stream with the texts put back."""
        ...


@dataclass(slots=True)
class UpstreamCall:
    """One assembled prompt on its way to one upstream."""

    request_id: str
    kind: Kind
    messages: list[Message]
    params: Mapping[str, Any]
    model: str
    tier: str
    deadline_s: float
    """Monotonic time by which the whole request must be over."""
    company_context: Mapping[str, Any] | None = None
    abstraction_context: Mapping[str, Any] | None = None
    bare_messages: list[Message] | None = None
    """The messages without the contexts, for an upstream that takes these beside the prompt."""
    traceparent: str | None = None
    mask: AnswerMask | None = None
    """Set where personal data is masked: marks in the answer become texts again."""
    done: bool = False
    """Set by a provider whose upstream declared the end of its stream with `[DONE]`."""
    waits: Callable[[bool], None] = _no_clock
    """Stops the attempt's clock while a Space wakes, and starts it afresh."""


@dataclass(slots=True)
class Completion:
    """A whole answer: OpenAI's shape, and its bytes where the upstream spoke it already."""

    body: dict[str, Any]
    raw: bytes | None = None
    revision: str = ""


class Frame(NamedTuple):
    """One piece of a streamed answer, ready to be forwarded."""

    wire: bytes
    """The finished server-sent event."""
    chunk: dict[str, Any]
    """The same as OpenAI's chunk."""


@dataclass(slots=True)
class Probe:
    """What a real test of an upstream found."""

    ok: bool
    latency_s: float
    dialect: str = ""
    revision: str = ""
    stage: str = ""
    error_code: str = ""
    message: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


class CompletionsOnly:
    """The part of a provider whose upstream makes no embeddings."""

    upstream: Upstream
    embeds: ClassVar[bool] = False

    async def embed(self, payload: dict[str, Any]) -> tuple[Any, bytes]:
        """Refuse.

        Raises: UpstreamMissing.
        """
        raise UpstreamMissing(f"{self.upstream.name} makes no embeddings")


class Provider(Protocol):
    """Answer calls at one upstream."""

    upstream: Upstream
    embeds: ClassVar[bool]
    """Whether `embed` can answer."""

    async def complete(self, call: UpstreamCall) -> Completion:
        """Return the whole answer.

        Raises: UpstreamError.
        """
        ...

    def stream(self, call: UpstreamCall) -> AsyncGenerator[Frame]:
        """Yield the answer as it arrives; closing the iterator reaches the upstream.

        Raises: UpstreamError; after the first frame only UpstreamInterrupted or UpstreamTimeout.
        """
        ...

    async def embed(self, payload: dict[str, Any]) -> tuple[Any, bytes]:
        """Return the upstream's embeddings: the parsed body and its bytes.

        Raises: UpstreamError; UpstreamMissing from a provider that does not embed.
        """
        ...

    async def probe(self) -> Probe:
        """Test the upstream with a real request; never raises, writes nothing."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
