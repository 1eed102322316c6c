"""The tiers of a gateway as models to compare, and the gateway as the place feedback goes to.

It is spoken to over HTTP only, with a key that no page ever shows. Left out: what a tier is.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from triptych.config import Config, environment
from triptych.config.environment import Secret
from triptych.errors import GenerationError, TierError
from triptych.lm.generate.engine import Chunk, FinishReason, GenerateRequest
from triptych.panels.playground.models.model_list import LOOPBACK, is_shared
from triptych.wire import sse

PREFIX = "gateway:"
LOOK_S = 2.0
TIMEOUT_S = 10.0
SILENCE_S = 120.0
REMEMBER_S = 15.0
FEATURE = "playground"


@dataclass
class Trace:
    """What really answered, as the gateway's headers say."""

    request_id: str = ""
    tier: str = ""
    provider: str = ""
    model: str = ""
    revision: str = ""

    def read(self, headers: Any) -> None:
        """Take the headers of an answer."""
        self.request_id = headers.get("x-request-id", "")
        for name in ("tier", "provider", "model", "revision"):
            setattr(self, name, headers.get(f"x-triptych-{name}", ""))

    def as_dict(self) -> dict[str, str]:
        """Return what is known, without empty fields."""
        return {name: value for name, value in asdict(self).items() if value}


def tier_of(reference: str) -> str | None:
    """Return the model name behind a reference to a gateway's model; None for any other."""
    return reference.removeprefix(PREFIX) if reference.startswith(PREFIX) else None


class Gateway:
    """Speak to one gateway in the name of this page."""

    def __init__(self, address: str, key: Callable[[], Secret | None]) -> None:
        self.address = address.rstrip("/")
        self._key = key
        self._names: list[str] = []
        self._asked_s = float("-inf")

    def __repr__(self) -> str:
        return f"Gateway({self.address!r})"

    async def models(self, key: Secret | None = None) -> list[str]:
        """List the names it answers to; none while it is away or lets this page not in."""
        if time.monotonic() - self._asked_s < REMEMBER_S and self._names:
            return self._names
        try:
            answer = await self._ask("GET", "/v1/models", LOOK_S, key=key)
            self._names = [str(card["id"]) for card in answer["data"]]
        except (TierError, KeyError, TypeError):
            self._names = []
        self._asked_s = time.monotonic()
        return self._names

    async def chunks(
        self, model: str, request: GenerateRequest, trace: Trace, key: Secret | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """Yield one answer as it comes; `trace` is filled before the first piece.

        `key` is a visitor's own; without one, the page's is used.

        Raises: GenerationError in the gateway's own words.
        """
        path, body = _question(model, request)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_S, sock_read=SILENCE_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(
                    self.address + path, data=orjson.dumps(body), headers=self._headers(key)
                ) as answer,
            ):
                trace.read(answer.headers)
                if answer.status >= 400:
                    raise _refusal(answer.status, await answer.read())
                parser = sse.Parser()
                async for piece in answer.content.iter_any():
                    for event in parser.feed(piece):
                        chunk = _chunk(event.data)
                        if chunk is None:
                            return
                        yield chunk
        except (aiohttp.ClientError, TimeoutError) as error:
            raise GenerationError(
                f"the gateway at {self.address} does not answer",
                hint="start it: triptych up, or triptych gateway serve",
                code="unreachable",
                retryable=True,
            ) from error

    async def give_feedback(
        self,
        request_id: str,
        kind: str,
        value: Any,
        feedback_id: str = "",
        key: Secret | None = None,
    ) -> None:
        """Send feedback to the gateway: what was said about one of its answers.

        Raises: TierError in the gateway's own words.
        """
        body = {"kind": kind, "value": value, "request_id": request_id}
        if feedback_id:
            body["feedback_id"] = feedback_id
        await self._ask("POST", "/api/feedback", TIMEOUT_S, body, key)

    async def _ask(
        self, method: str, path: str, within_s: float, body: Any = None, key: Secret | None = None
    ) -> Any:
        timeout = aiohttp.ClientTimeout(total=within_s)
        data = None if body is None else orjson.dumps(body)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.request(
                    method, self.address + path, data=data, headers=self._headers(key)
                ) as answer,
            ):
                content = await answer.read()
                if answer.status >= 400:
                    raise TierError(_refusal(answer.status, content).message)
                return orjson.loads(content)
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            raise TierError(f"the gateway at {self.address} does not answer") from error

    def _headers(self, given: Secret | None) -> dict[str, str]:
        headers = {"content-type": "application/json", "x-triptych-feature": FEATURE}
        if key := given or self._key():
            headers["authorization"] = f"Bearer {key.reveal()}"
        return headers


def open_gateway(config: Config, address: str = "") -> Gateway | None:
    """Return the gateway that is configured, or none.

    Its key is TRIPTYCH_GATEWAY_KEY. Only on this machine, for its one user, the admin key that the
    gateway's first start left in the home serves as well.
    """
    address = address or config.panels.gateway
    if not address:
        return None
    own = not is_shared(config) and urlsplit(address).hostname in LOOPBACK

    def key() -> Secret | None:
        if given := environment.secret("TRIPTYCH_GATEWAY_KEY"):
            return given
        file = environment.home() / "gateway" / "admin-key"
        return Secret(file.read_text(encoding="utf-8")) if own and file.is_file() else None

    return Gateway(address, key)


def _question(model: str, request: GenerateRequest) -> tuple[str, dict[str, Any]]:
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if request.messages:
        return "/v1/chat/completions", {**body, "messages": [dict(m) for m in request.messages]}
    return "/v1/completions", {**body, "prompt": request.prompt}


def _chunk(data: str) -> Chunk | None:
    """Read one event; None at the end of the stream."""
    if data == sse.DONE_DATA:
        return None
    event = orjson.loads(data)
    if "error" in event:
        raise GenerationError(str(event["error"].get("message")), code="upstream")
    usage = event.get("usage") or {}
    choice = (event.get("choices") or [{}])[0]
    text = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
    reason: FinishReason | None = None
    if choice.get("finish_reason"):
        reason = "length" if choice["finish_reason"] == "length" else "stop"
    return Chunk(
        text=text,
        finish_reason=reason,
        input_tokens=int(usage.get("prompt_tokens") or 0),
        output_tokens=int(usage.get("completion_tokens") or 0),
    )


def _refusal(status: int, content: bytes) -> GenerationError:
    try:
        said = orjson.loads(content)["error"]["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        said = f"the gateway answered {status}"
    return GenerationError(str(said), code="upstream")
